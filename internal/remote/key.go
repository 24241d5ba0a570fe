package remote

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
)

const (
	keyName  = "id_ed25519"
	lockName = ".lock"
	maxKey   = 64 << 10
)

// ensureKey loads the private key of dir. Where there is none it makes one,
// under a lock, so that two first runs agree on it.
func ensureKey(dir string) (ssh.Signer, error) {
	path := filepath.Join(dir, keyName)
	signer, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	held, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	if signer, err = loadKey(path); !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	if err := makeKey(path); err != nil {
		return nil, err
	}
	return loadKey(path)
}

func lockDir(dir string) (*lock.Lock, error) {
	// Whoever holds it writes one small file, so this wait is short.
	return lock.Wait(context.Background(), filepath.Join(dir, lockName), fmt.Sprintf("pid %d", os.Getpid()), nil)
}

func loadKey(path string) (ssh.Signer, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return nil, fmt.Errorf("%q is not a private key's file", path)
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, hint.Wrap(fmt.Errorf("%q is open to others (mode %04o)", path, info.Mode().Perm()),
			"whoever read it can log in to the guests; if nobody did: chmod 600 %s", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return signer, nil
}

func makeKey(path string) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "ovsactl")
	if err != nil {
		return err
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(path+".pub", []byte(authorizedLine(sshPublic)+" ovsactl\n"), 0o644); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
