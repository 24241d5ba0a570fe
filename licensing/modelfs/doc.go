// Package modelfs shows unlocked models as a read-only file system (FUSE), in which a
// program that knows nothing of licences finds its model as it would on a disk:
//
//	NAME/VERSION/model.xml
//	NAME/VERSION/model.bin
//
// A file's chunk is decrypted and authenticated when something of it is read, before a
// byte of it is given out; one that is wrong or missing is an input/output error, and
// logged. So reading can begin before the rest is decrypted, and a corrupted part
// harms those alone who read it.
//
// # Where plaintext is
//
// In the kernel's page cache, whose pages of such a file are clean, and so dropped and
// never written or swapped; in the program that reads; and in the chunks that the file
// system keeps, at most Options.Cache bytes, which are wiped when they are used again
// and in the end.
//
// # Who sees it
//
// The process that mounts it, in a mount namespace of its own, and those that it
// starts: see Attach. The kernel lets one user in, and neither root nor another. Root
// can still become that user, enter the namespace, or trace a process that reads.
//
// # The end
//
// Remove takes a version away while others stay: the kernel drops its pages, also from
// the memory of a process that has mapped them, and whoever reads on gets an error, or
// the signal that mapped files have for that, SIGBUS.
package modelfs
