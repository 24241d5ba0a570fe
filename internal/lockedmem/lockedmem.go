// Package lockedmem keeps secrets in memory that is never written to a disk: it is
// locked, so it is not swapped, no core dump has it, and children get zeros.
//
// What Go's cryptography makes of a secret, its key schedules and copies, is on Go's
// heap and is not covered: NoDumps keeps the whole process out of core dumps.
package lockedmem

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxSize is the size of a Buffer at most, in bytes: the smallest page that there is.
const MaxSize = 4096

// Buffer is such memory: a page of Go's heap, which stays for as long as somebody
// refers to the Buffer or to its bytes.
type Buffer struct {
	bytes  []byte // in page
	page   []byte
	locked bool
}

// New returns n zero bytes, at most MaxSize. It panics where the kernel does not know
// how to keep memory out of dumps. Where it locks no more memory for this process
// (RLIMIT_MEMLOCK), the rest of what this package promises still holds: see Locked.
func New(n int) *Buffer {
	if n > MaxSize {
		panic(fmt.Errorf("lockedmem: %d bytes, over the limit of %d", n, MaxSize))
	}
	// A page of its own, wherever in the memory that begins.
	size := unix.Getpagesize()
	memory := make([]byte, 2*size)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))) & (size - 1)
	b := &Buffer{page: memory[skip : skip+size : skip+size]}
	b.bytes = b.page[:n:n]
	b.locked = unix.Mlock(b.page) == nil
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(b.page, advice); err != nil {
			panic(fmt.Errorf("lockedmem: %w", err))
		}
	}
	// A finalizer and no cleanup: nobody else gets the memory before it has run.
	runtime.SetFinalizer(unsafe.SliceData(memory), func(first *byte) {
		giveBack(unsafe.Slice(first, 2*size)[skip : skip+size])
	})
	return b
}

// giveBack makes a page what Go's allocator expects.
func giveBack(page []byte) {
	clear(page)
	_ = unix.Munlock(page)
	_ = unix.Madvise(page, unix.MADV_DODUMP)
	_ = unix.Madvise(page, unix.MADV_KEEPONFORK)
}

// Bytes is the memory itself.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Locked says whether the memory was locked when it was made.
func (b *Buffer) Locked() bool { return b.locked }

// Wipe makes the bytes zero, and gives back what they took of RLIMIT_MEMLOCK. They
// stay readable: others may look at them still.
func (b *Buffer) Wipe() { giveBack(b.page) }

// NoDumps keeps this process out of core dumps, and away from debuggers of the same
// user (prctl(2), PR_SET_DUMPABLE). Its children are not bound by it.
func NoDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep out of core dumps: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("keep out of core dumps: %w", err)
	}
	return nil
}
