package nv

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ErrNoIndex says that an NV index is not defined.
var ErrNoIndex = errors.New("the NV index is not defined")

// ReadIndex reads an NV index in full, with its own empty auth value where the
// index allows that, else with the owner's. An undefined index is ErrNoIndex,
// and one that was never written is tpm2.TPMRCNVUninitialized.
func ReadIndex(t transport.TPM, index uint32) ([]byte, error) {
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, ErrNoIndex
	}
	if err != nil {
		return nil, fmt.Errorf("read the public area of NV index %#x: %w", index, err)
	}
	info, err := pub.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("read the public area of NV index %#x: %w", index, err)
	}
	auth := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if info.Attributes.AuthRead {
		auth = tpm2.AuthHandle{Handle: info.NVIndex, Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)}
	}
	data := make([]byte, 0, info.DataSize)
	for len(data) < int(info.DataSize) {
		rsp, err := tpm2.NVRead{
			AuthHandle: auth,
			NVIndex:    tpm2.NamedHandle{Handle: info.NVIndex, Name: pub.NVName},
			Size:       uint16(min(int(info.DataSize)-len(data), Chunk)),
			Offset:     uint16(len(data)),
		}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("read NV index %#x: %w", index, err)
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, fmt.Errorf("read NV index %#x: the TPM gave no data", index)
		}
		data = append(data, rsp.Data.Buffer...)
	}
	return data, nil
}
