// Package seccomp has the kernel refuse system calls: seccomp(2). Libraries for that
// which we know let a program of x86-64 make those of i386, by which all is called
// otherwise; here such a call ends it.
package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Powerful are the calls of a program that administers a machine, looks at others or
// reaches parts of the kernel that programs with another purpose have no use for.
func Powerful() []uintptr {
	return []uintptr{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
		unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_PERSONALITY,
	}
}

// namespaces are the flags of clone(2) by which a process makes them.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Where a call's data are, as the kernel shows them to a filter: struct seccomp_data.
const (
	callOffset = 0
	archOffset = 4
	arg0Offset = 16 // its lower half, on machines that are little endian
)

// x32 is the first call of x86-64's other interface, with short pointers.
const x32 = 0x40000000

// refuse and absent are what a filter returns for a call.
const (
	refuse = uint32(unix.SECCOMP_RET_ERRNO | unix.EPERM)
	absent = uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
)

// Refuse refuses calls to this process from now on, in all its threads, and to all that
// it starts or becomes. They fail with EPERM. So does making namespaces, by whichever
// call. It is for processes that cannot get more rights: no_new_privs is set, too.
func Refuse(calls []uintptr) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new rights: %w", err)
	}
	code, err := filter(calls)
	if err != nil {
		return fmt.Errorf("refuse system calls: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("refuse system calls: %w", errno)
	}
	return nil
}

// filter is the program that looks at each call.
func filter(calls []uintptr) ([]unix.SockFilter, error) {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	ret := func(v uint32) bpf.Instruction { return bpf.RetConstant{Val: v} }
	is := func(call uintptr) bpf.Instruction {
		return bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(call), SkipFalse: 1}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: archOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		bpf.LoadAbsolute{Off: callOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32, SkipFalse: 1},
		ret(absent),
		// Its flags are in memory, which a filter does not see: the C library does
		// without it.
		is(unix.SYS_CLONE3), ret(absent),
	}
	for _, call := range calls {
		program = append(program, is(call), ret(refuse))
	}
	program = append(program,
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE, SkipTrue: 3},
		bpf.LoadAbsolute{Off: arg0Offset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: namespaces, SkipTrue: 1},
		ret(refuse),
		ret(unix.SECCOMP_RET_ALLOW),
	)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	var code []unix.SockFilter
	for _, i := range raw {
		code = append(code, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return code, nil
}
