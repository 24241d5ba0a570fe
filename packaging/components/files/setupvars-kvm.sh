# Source this file to find the OpenVINO Security Add-on's programs:
#   . /opt/ovsa/kvm/scripts/setupvars.sh
OVSA_HOME=/opt/ovsa/kvm
export OVSA_HOME
case ":${PATH}:" in
*:/opt/ovsa/kvm/bin:*) ;;
*) PATH=/opt/ovsa/kvm/bin:${PATH} && export PATH ;;
esac
