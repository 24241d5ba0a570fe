package vm_test

import (
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/vmtest"
)

var (
	_ provision.Hypervisor = (*vm.Host)(nil)
	_ provision.Hypervisor = (*vmtest.Host)(nil)
)
