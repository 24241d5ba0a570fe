package provision

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ovsactl/ovsactl/internal/dag"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vm/seed"
	"github.com/ovsactl/ovsactl/vtpm"
)

// roleRun is one role in one run. Its steps run one after another where they
// share a field.
type roleRun struct {
	*run
	plan     *RolePlan
	metadata vm.Metadata
	emulated bool  // it was started without KVM
	guest    Guest // from reachable on
}

func (s *roleRun) domain() string { return DomainName(s.plan.Role) }

func (s *roleRun) uuid() string {
	if s.plan.state.UUID != "" && s.plan.Action != Remake {
		return s.plan.state.UUID
	}
	return DomainUUID(s.run.plan.manifest.Host.Name, s.plan.Role)
}

func (s *roleRun) identity() vtpm.Identity { return vtpm.Identity{UUID: s.uuid(), Name: s.domain()} }

func (s *roleRun) owned() []owned {
	uuid := DomainUUID(s.run.plan.manifest.Host.Name, s.plan.Role)
	return ownedOf(s.plan.intent, s.plan.state, s.plan.Role, uuid)
}

// shares tells whether the role waits for a step that is not its own.
func (s *roleRun) shares(id string) bool {
	if id == "image."+s.plan.role.Image || id == enrolStep {
		return true
	}
	for _, n := range s.plan.role.Networks {
		if id == "network."+n.Network {
			return true
		}
	}
	return false
}

// nodes are the steps of the role's action.
//
//	create   disk, vtpm, seed, address -> define -> start -> reachable -> components -> ready -> verified
//	replace  removed, then create
//	restart  stopped, then create, whose steps leave alone what is as it should be
//	update   reachable -> components -> ready
//	blocked  check, which fails
//
// Where the host is certified, renewed is the last of all that have a vTPM.
func (s *roleRun) nodes() []dag.Node {
	nodes := s.own()
	if s.plan.Action == Delete || s.plan.Action == Blocked || s.plan.role.VTPM == nil || s.run.plan.Enrol == nil && !s.run.plan.certified {
		return nodes
	}
	at := "role." + s.plan.Role + "/"
	after := []string{s.last()}
	if s.run.plan.Enrol != nil {
		after = append(after, enrolStep)
		for i := range nodes {
			// A guest that starts when the host is certified need not start again; one
			// that is stopped meanwhile would be off for longer.
			if id := nodes[i].ID; !s.certifies() && (id == at+"vtpm" || id == at+"stopped") {
				nodes[i].Behind = []string{enrolStep}
			}
		}
	}
	return append(nodes, s.node(at+"renewed", after, s.renewed))
}

// certifies tells whether the host is enrolled with the role's licence server.
func (s *roleRun) certifies() bool { return s.plan.Role == s.run.plan.manifest.Host.Enroll.Role }

// inPlace tells whether the guest goes on as it is defined.
func (s *roleRun) inPlace() bool { return s.plan.Action == Update || s.plan.renew }

// last is the last of the role's own steps.
func (s *roleRun) last() string {
	nodes := s.own()
	return nodes[len(nodes)-1].ID
}

// own are the steps without the one that waits for the host's certificate.
func (s *roleRun) own() []dag.Node {
	at := func(phase string) string { return "role." + s.plan.Role + "/" + phase }
	step := func(phase string, do func(context.Context) error, after ...string) dag.Node {
		return s.node(at(phase), after, do)
	}
	var nodes []dag.Node
	var first []string
	switch {
	case s.plan.Action == Blocked:
		return []dag.Node{step("check", func(context.Context) error { return s.plan.blocked })}
	case s.plan.Action == Delete:
		return []dag.Node{step("removed", s.remove)}
	case s.inPlace():
		return []dag.Node{
			step("reachable", s.reach),
			step("components", s.install, at("reachable")),
			step("ready", s.ready, at("components")),
		}
	case s.plan.Action == Remake:
		nodes, first = append(nodes, step("removed", s.remove)), []string{at("removed")}
	case s.plan.Action == Reboot || s.plan.Action == Finish:
		nodes, first = append(nodes, step("stopped", s.stop)), []string{at("stopped")}
	}
	with := func(more ...string) []string { return append(slices.Clone(first), more...) }
	var image, networks []string
	if s.needsImage() {
		image = []string{"image." + s.plan.role.Image}
	}
	for _, n := range s.plan.role.Networks {
		networks = append(networks, "network."+n.Network)
	}
	before := []string{at("disk"), at("address")}
	nodes = append(nodes,
		step("disk", s.makeDisk, with(image...)...),
		step("address", s.reserve, with(networks...)...))
	if s.plan.role.VTPM != nil {
		nodes = append(nodes, step("vtpm", s.makeTPM, first...))
		before = append(before, at("vtpm"))
	}
	if s.plan.intent.Image.Build == nil {
		nodes = append(nodes, step("seed", s.makeSeed, with(image...)...))
		before = append(before, at("seed"))
	}
	return append(nodes,
		step("define", s.define, before...),
		step("start", s.start, at("define")),
		step("reachable", s.reach, at("start")),
		step("components", s.install, at("reachable")),
		step("ready", s.ready, at("components")),
		step("verified", s.verify, at("ready")))
}

// needsImage tells whether the role's image has to be there: to make a disk from
// it, or to boot its kernel.
func (s *roleRun) needsImage() bool {
	return s.fresh() || s.plan.role.Firmware == "kernel" && s.plan.role.Kernel == nil
}

func (s *roleRun) stop(ctx context.Context) error {
	if !s.plan.state.Active || s.plan.Action == Finish && !s.plan.state.Stale {
		return nil
	}
	return s.Hypervisor.Stop(ctx, s.domain())
}

func (s *roleRun) remove(ctx context.Context) error {
	return s.removeRole(ctx, s.plan.state, s.owned())
}

// makeDisk makes the overlay of a new guest, or grows that of one that stays:
// a guest that has a domain has a disk.
func (s *roleRun) makeDisk(ctx context.Context) error {
	name := diskVolume(s.plan.Role)
	if s.fresh() {
		// Without a domain, a volume of this name is the rest of a dead run, and
		// may be over another image.
		if err := s.Hypervisor.DeleteVolume(ctx, Pool, name); err != nil {
			return err
		}
		_, base := s.image(s.plan.role.Image)
		return s.Hypervisor.CreateOverlay(ctx, Pool, name, base, s.plan.role.Disk)
	}
	if !slices.ContainsFunc(s.plan.Changes, func(c Change) bool { return c.Attribute == "disk" }) {
		return nil
	}
	volumes, err := s.Hypervisor.Volumes(ctx, Pool)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if isBaseOf(v, s.plan.state.Metadata.Image) {
			return s.Hypervisor.CreateOverlay(ctx, Pool, name, v, s.plan.role.Disk)
		}
	}
	return fmt.Errorf("grow disk: the base volume of image %s is not in pool %q", s.plan.state.Metadata.Image, Pool)
}

// fresh tells whether the guest is made from nothing.
func (s *roleRun) fresh() bool { return s.plan.Action == Create || s.plan.Action == Remake }

// running tells whether the guest runs and is left running.
func (s *roleRun) running() bool {
	return s.plan.Action == Finish && s.plan.state.Active && !s.plan.state.Stale
}

func (s *roleRun) makeTPM(ctx context.Context) error {
	if s.running() {
		return nil
	}
	if err := s.TPM.Manufacture(ctx, s.identity()); err != nil {
		return err
	}
	return s.TPM.Bind(ctx, s.identity())
}

func (s *roleRun) seedData() seed.Data {
	d := seed.Data{
		Hostname:       HostName(s.plan.Role),
		InstanceID:     s.uuid(),
		User:           s.plan.role.SSHUser,
		AuthorizedKeys: []string{s.Remote.AuthorizedKey()},
	}
	for _, n := range s.plan.role.Networks {
		nic := seed.NIC{MAC: n.MAC}
		if net, _ := networkOf(s.run.plan.manifest, n.Network); net.Bridge != nil && net.Bridge.CIDR.IsValid() {
			nic.Address = netip.PrefixFrom(n.Address, net.Bridge.CIDR.Bits())
			nic.Gateway, nic.DNS = net.Bridge.Gateway, net.Bridge.DNS
		}
		d.NICs = append(d.NICs, nic)
	}
	s.setMetrics(d.NICs)
	return d
}

// setMetrics orders the default routes of a guest on several networks: what comes
// from elsewhere comes over a bridge, and is answered over it. Behind a NAT only the
// host and its guests reach the guest, and they need no route.
func (s *roleRun) setMetrics(nics []seed.NIC) {
	if len(nics) < 2 {
		return
	}
	metric := 100
	for _, bridged := range []bool{true, false} {
		for i, n := range s.plan.intent.Networks {
			if (n.Bridge != "") == bridged {
				nics[i].Metric = metric
				metric += 100
			}
		}
	}
}

func (s *roleRun) makeSeed(ctx context.Context) error {
	if s.running() {
		return nil
	}
	data, err := seed.NoCloud(s.seedData())
	if err != nil {
		return err
	}
	return s.Hypervisor.WriteVolume(ctx, Pool, seedVolume(s.plan.Role), data)
}

// reserve makes the address the guest's before it asks for one, and gives up
// those that the role no longer has.
func (s *roleRun) reserve(ctx context.Context) error {
	var keep []reservation
	for _, n := range s.plan.role.Networks {
		net, _ := networkOf(s.run.plan.manifest, n.Network)
		if net.NAT == nil || !n.Address.IsValid() {
			continue
		}
		keep = append(keep, reservation{n.Network, n.MAC})
		r := vm.Reservation{MAC: n.MAC, Address: n.Address, Name: HostName(s.plan.Role)}
		if err := s.Hypervisor.Reserve(ctx, n.Network, r); err != nil {
			return err
		}
	}
	for _, o := range s.owned() {
		for _, r := range o.Reservations {
			if !slices.Contains(keep, r) {
				if err := s.Hypervisor.Unreserve(ctx, r.Network, r.MAC); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *roleRun) define(ctx context.Context) error {
	if s.running() {
		s.metadata = s.plan.state.Metadata
		return nil
	}
	accel, err := s.accel()
	if err != nil {
		return err
	}
	s.emulated = accel == vm.TCG
	img, _ := s.image(s.plan.role.Image)
	s.metadata = s.newMetadata(img)
	return s.Hypervisor.Define(ctx, s.spec(img, accel))
}

// newMetadata is what the domain remembers of this run. What only the guest
// can tell is carried over from a guest that stays.
func (s *roleRun) newMetadata(img image.Image) vm.Metadata {
	old := s.plan.state.Metadata
	m := vm.Metadata{
		Role: s.plan.Role, Owner: s.Owner, Image: img.Digest, DataDir: s.run.plan.manifest.Host.DataDir,
		User: s.plan.role.SSHUser, CreatedAt: s.now().UTC().Truncate(time.Second),
	}
	in := s.plan.intent
	if before, err := decodeIntent(old.Intent); err == nil && s.plan.Action != Remake {
		// What a component's port was changed to is only true once its installer
		// has run: install records it then.
		in.Components = before.Components
	} else {
		// Nor has a new guest what its components' arguments say.
		in.Components = slices.Clone(in.Components)
		for i, c := range s.plan.role.Components {
			if _, ok := serviceOf(c); ok {
				in.Components[i].Port, in.Components[i].Arguments = 0, nil
			}
		}
	}
	m.Intent, m.Manifest = in.encode()
	m.Address = in.address()
	if s.plan.state.Exists && s.plan.Action != Remake {
		m.Owner, m.Image, m.CreatedAt = old.Owner, old.Image, old.CreatedAt
		m.HostKeys, m.Components, m.Authority = old.HostKeys, old.Components, old.Authority
	}
	return m
}

func (s *roleRun) spec(img image.Image, accel vm.Accel) vm.Spec {
	role := s.plan.role
	spec := vm.Spec{
		Name: s.domain(), UUID: s.uuid(), CPUs: role.CPUs, Memory: role.Memory, Accel: accel,
		Firmware: vm.Firmware(role.Firmware), Metadata: s.metadata,
		Disks: []vm.Disk{{Pool: Pool, Volume: diskVolume(role.Name), Format: "qcow2", Serial: "root"}},
	}
	switch {
	case role.Kernel != nil:
		spec.Kernel = &vm.Kernel{Path: role.Kernel.Path, Initrd: role.Kernel.Initrd, Cmdline: role.Kernel.Cmdline}
	case role.Firmware == "kernel":
		spec.Kernel = &vm.Kernel{Path: img.Kernel, Initrd: img.Initrd, Cmdline: img.Cmdline}
	}
	if s.plan.intent.Image.Build != nil {
		spec.Credentials = seed.Credentials(s.seedData())
	} else {
		spec.Disks = append(spec.Disks, vm.Disk{Pool: Pool, Volume: seedVolume(role.Name), Format: "raw", ReadOnly: true, Serial: "seed"})
	}
	for _, n := range role.Networks {
		nic := vm.NIC{MAC: n.MAC, Address: n.Address}
		if net, _ := networkOf(s.run.plan.manifest, n.Network); net.Bridge != nil {
			nic.Bridge = net.Bridge.Name
		} else {
			nic.Network = n.Network
		}
		spec.NICs = append(spec.NICs, nic)
	}
	if role.VNC != nil {
		spec.VNC = &role.VNC.Display
	}
	if role.VTPM != nil {
		spec.TPM = vm.TPMModel("tpm-" + role.VTPM.Model)
	}
	return spec
}

func (s *roleRun) start(ctx context.Context) error {
	err := s.Hypervisor.Start(ctx, s.domain())
	for _, n := range s.plan.intent.Networks {
		if err != nil && n.Bridge != "" && hint.Of(err) == "" {
			// libvirt says "No such device" of it, and the host may be another machine.
			err = hint.Wrap(err, "does the host have the bridge %q? ip link show type bridge", n.Bridge)
		}
	}
	return err
}

func (s *roleRun) verify(ctx context.Context) error {
	if s.plan.role.VTPM == nil {
		return nil
	}
	status, err := s.TPM.Status(ctx, s.uuid())
	if err != nil {
		return err
	}
	if status.Binding != vtpm.Bound {
		return hint.Wrap(fmt.Errorf("the vTPM is %s: %s", status.Binding, status.Reason),
			"is the start hook installed? ovsactl host check; then: ovsactl vtpm verify %s", s.plan.Role)
	}
	return nil
}

func (s *roleRun) disconnect() {
	if s.guest != nil {
		s.guest.Close()
		s.guest = nil
	}
}
