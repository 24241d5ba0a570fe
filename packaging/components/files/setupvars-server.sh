# Source this file to find the licence server's programs:
#   . /opt/ovsa/scripts/setupvars.sh
case ":${PATH}:" in
*:/opt/ovsa/bin:*) ;;
*) PATH=/opt/ovsa/bin:${PATH} && export PATH ;;
esac
case ${BASH_VERSION:+bash}$- in # complete command lines, where somebody types them
bash*i*) eval "$(license_server completion bash)" ;;
esac
