# Source this file to find the OpenVINO Security Add-on's programs:
#   . /opt/ovsa/kvm/scripts/setupvars.sh
OVSA_HOME=/opt/ovsa/kvm
export OVSA_HOME
case ":${PATH}:" in
*:/opt/ovsa/kvm/bin:*) ;;
*) PATH=/opt/ovsa/kvm/bin:${PATH} && export PATH ;;
esac
case ${BASH_VERSION:+bash}$- in # complete command lines, where somebody types them
bash*i*) for program in ovsatool ovsaruntime; do eval "$("$program" completion bash)"; done ;;
esac
