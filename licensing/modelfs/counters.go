package modelfs

import "sync/atomic"

// Counters count what is read of models. Several file systems may share them.
type Counters struct {
	Read      atomic.Uint64 // bytes that were given out
	Decrypted atomic.Uint64 // bytes of chunks that were decrypted and authenticated
	Kept      atomic.Uint64 // chunks that were there when they were asked for, or on their way
	Wrong     atomic.Uint64 // reads of chunks that are not what was sealed, or are missing
}
