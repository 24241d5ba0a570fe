// Package e2e drives the real program against real libvirt, QEMU, guests and
// SSH, in a lab. What belongs here is what only real guests can show: that they
// boot, are reached, are proven, survive and go. Everything else has a faster
// test closer to its code.
//
// The tests tell one story, in order, because a guest's boot is what costs time
// under emulation:
//
//	make e2e
//	go test -tags e2e ./test/e2e -run TestStory/apply   (a part needs the parts before it)
package e2e
