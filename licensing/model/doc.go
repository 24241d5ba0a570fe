// Package model is the encrypted model container, the .dat file: any number of
// files of any size, encrypted under one key and signed by the model's vendor.
//
//	header | ciphertext of all files | tag table | signed manifest | trailer
//
// docs/formats.md has every byte of it. The rest of this text says why.
//
// # What a reader is promised
//
// Open checks all lengths against the size of the container, the vendor's
// signature over the manifest, the header against the manifest, and the whole tag
// table against the manifest. A container that was cut or extended, whose files
// or table were reordered, that was spliced from several, or that has another's
// header is refused there, before there is any plaintext.
//
// From then on every chunk has its place, and one tag there. Ciphertext that was
// changed or moved beneath an intact table is refused when it is read: no byte of
// a chunk is given out before the chunk was authenticated, so what a reader has
// got until then is the file's true beginning. Check reads everything beforehand,
// for those who want all or nothing.
//
// The table stays in the container and may be changed after Open has checked it,
// so each piece of it is compared again when it is used.
//
// # Uniqueness of nonces
//
// Each container has a salt of 32 random bytes. Each file has its own AES-256
// key, by HKDF from the model key with the salt and the file's index, so no two
// files of any two containers share one, even under one model key. Within a
// file the nonce is the chunk's index and a flag on the last chunk (the STREAM
// construction of Hoang, Reyhanitabar, Rogaway and Vizár), so none is used
// twice. A container is written once, front to back, and never updated.
//
// # Why a commitment
//
// AES-GCM does not commit to its key: a ciphertext can be made that opens under
// two keys. The header therefore has a value derived from the key that only one
// key can have, and the digest that licences name covers it.
//
// # Why digests beside the tags
//
// A GCM tag is no hash. Whoever has the key can change a chunk and repair it
// with one block so that its tag stays, and then the vendor's signature over
// the tags says nothing about what the chunks hold. The key is in every guest
// that runs the model, so one of them gone bad could forge the model for all.
// The table therefore also has the BLAKE3 of each chunk's ciphertext, unless
// the vendor decides that those who have the key are trusted (Sealer.TagsOnly).
// The choice is in the signed manifest; a reader cannot be talked out of it.
// The digests cost time, BLAKE3 being some four fifths as fast as AES-GCM where both
// use the processor's vectors, and let anyone check a container without its key.
// Version 1 of the format has SHA-256 in their place, which takes more than twice as
// long; it is read, and not made. A manifest
// names its version and its digests, and has to have a pair that exists.
//
// # Memory
//
// Sealing and opening hold a few chunks per worker. Sealing also holds the tag
// table until the end, 48 bytes (or 16) per MiB; opening holds 32 bytes per GiB.
package model
