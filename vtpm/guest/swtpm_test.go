package guest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vtpm/nv"
)

// startTPM starts a swtpm whose boot registers are extended, and returns the path
// of its socket. It serves one connection at a time, any number of times.
func startTPM(t *testing.T) string {
	t.Helper()
	need.Programs(t, "swtpm")
	dir, err := os.MkdirTemp("", "tpm") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	swtpm, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--server", "type=unixio,path=" + socket, "--ctrl", "type=unixio,path=" + socket + ".ctrl",
		"--flags", "not-need-init,startup-clear", "--tpmstate", "dir=" + dir,
	}}.Start(ctx)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = swtpm.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("swtpm made no socket")
		}
	}
	tpm := open1(t, socket)
	defer tpm.Close()
	for pcr := range tpm2.TPMHandle(8) {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: pcr, Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{
				HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{byte(pcr + 1)}, 32),
			}}},
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
	return socket
}

// open1 opens the TPM; its one connection is closed at the test's end at the latest.
func open1(t *testing.T, socket string) *TPM {
	t.Helper()
	tpm, err := Open(context.Background(), "unix:"+socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if tpm.broken == nil {
			tpm.Close()
		}
	})
	return tpm
}

// define defines an NV index and writes data there; nil defines one of 10 bytes
// and writes nothing.
func define(t *testing.T, socket string, index tpm2.TPMHandle, data []byte) {
	t.Helper()
	tpm := open1(t, socket)
	defer tpm.Close()
	size := len(data)
	if data == nil {
		size = 10
	}
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHPlatform,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
			Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true},
		}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if data == nil {
		return
	}
	pub, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 1024 {
		_, err := tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHPlatform, NVIndex: tpm2.NamedHandle{Handle: index, Name: pub.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+1024, len(data))]}, Offset: uint16(at),
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeRecord(t *testing.T, socket string, record []byte) {
	t.Helper()
	for i, c := range nv.Chunks(record) {
		define(t, socket, nv.Base+tpm2.TPMHandle(i), c)
	}
}
