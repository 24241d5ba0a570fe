// Package remote reaches guests over SSH: one key of ours, host keys that are
// known before the first connection, argument vectors instead of shell strings,
// and files that arrive whole or not at all. It is the only package that speaks
// SSH.
//
// There is no way to connect without host keys: a guest whose keys are not
// known cannot be reached.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// sshPort is where guests listen.
const sshPort = 22

// How long things may take before they are tried again, and how long to wait
// in between. A cold guest under emulation needs seconds for a handshake.
const (
	connectTimeout   = 3 * time.Second
	handshakeTimeout = 30 * time.Second
	firstPoll        = 20 * time.Millisecond
	maxPoll          = 200 * time.Millisecond
	// A server counts refused logins against the client (PerSourcePenalties),
	// so those are tried again slowly enough never to be locked out.
	authPoll = 5 * time.Second
)

// Client is this host's side of SSH: its key pair and its known hosts, both in
// one directory. It is safe for use by many goroutines and processes.
type Client struct {
	dir    string
	signer ssh.Signer
}

// Open loads the key pair of dir, which it makes first where there is none. It
// refuses a private key that others may read.
func Open(dir string) (*Client, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ssh directory: %w", err)
	}
	signer, err := ensureKey(dir)
	if err != nil {
		return nil, fmt.Errorf("open ssh key: %w", err)
	}
	return &Client{dir: dir, signer: signer}, nil
}

// AuthorizedKey is the public key that guests must let in, one line of
// authorized_keys without the line's end.
func (c *Client) AuthorizedKey() string { return authorizedLine(c.signer.PublicKey()) + " ovsactl" }

// KeyPath names the private key's file, for other programs such as ssh(1).
func (c *Client) KeyPath() string { return filepath.Join(c.dir, keyName) }

// KnownHostsPath names the known hosts' file, in the format of OpenSSH.
func (c *Client) KnownHostsPath() string { return filepath.Join(c.dir, knownHostsName) }

// Session is what a caller that only installs things needs of a [Conn]. It is
// an alias so that consumers can declare the same interface on their side.
type Session = interface {
	Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error
	Close() error
}

// Dial is Connect to the guest's SSH port.
func (c *Client) Dial(ctx context.Context, addr netip.Addr, user string, hostKeys []string) (Session, error) {
	conn, err := c.Connect(ctx, Target{Addr: netip.AddrPortFrom(addr, sshPort), User: user, HostKeys: hostKeys})
	if err != nil {
		return nil, err // not a nil *Conn in an interface
	}
	return conn, nil
}

// Target says whom to connect to.
type Target struct {
	Addr     netip.AddrPort
	User     string
	HostKeys []string // authorized_keys format; no other key is accepted
}

// Connect connects as soon as the target answers and lets us in, and tries
// until ctx ends. A host key that is not one of the target's is a
// *[HostKeyError], at once and for good.
func (c *Client) Connect(ctx context.Context, t Target) (*Conn, error) {
	if !t.Addr.IsValid() || t.User == "" {
		return nil, errors.New("connect by ssh: no address or no user")
	}
	config, err := c.config(t)
	if err != nil {
		return nil, fmt.Errorf("connect by ssh to %s: %w", t.Addr, err)
	}
	poll := firstPoll
	var last error
	for {
		conn, err := attempt(ctx, t.Addr.String(), config)
		if err == nil {
			return newConn(conn, t.Addr.String()), nil
		}
		var wrongKey *HostKeyError
		if errors.As(err, &wrongKey) {
			return nil, hint.Wrap(fmt.Errorf("connect by ssh to %s: %w", t.Addr, wrongKey), "%s", wrongKeyHint)
		}
		if ctx.Err() == nil || last == nil {
			last = err // an attempt that ctx cut off says less than the one before
		}
		wait := poll
		poll = min(2*poll, maxPoll)
		if isAuthFailure(err) {
			wait = authPoll
		}
		select {
		case <-ctx.Done():
			return nil, giveUp(ctx, t, last)
		case <-time.After(wait):
		}
	}
}

func giveUp(ctx context.Context, t Target, last error) error {
	err := fmt.Errorf("connect by ssh to %s: %w: last attempt: %w", t.Addr, context.Cause(ctx), last)
	if isAuthFailure(last) {
		return hint.Wrap(err, "the guest does not let %q in with the key of this data directory; was the guest made with another one?", t.User)
	}
	return hint.Wrap(err, "see what the guest says: ovsactl console ROLE, or ovsactl logs ROLE")
}

// attempt makes one connection.
func attempt(ctx context.Context, addr string, config *ssh.ClientConfig) (*ssh.Client, error) {
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	tcp, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()
	if err := tcp.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		tcp.Close()
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(tcp, addr, config)
	if err != nil {
		tcp.Close()
		return nil, hostKeyFailure(err)
	}
	if err := tcp.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(conn, channels, requests), nil
}

func (c *Client) config(t Target) (*ssh.ClientConfig, error) {
	known, err := parseHostKeys(t.HostKeys)
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User:              t.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(c.signer)},
		HostKeyCallback:   known.check,
		HostKeyAlgorithms: known.algorithms(),
		ClientVersion:     "SSH-2.0-ovsactl",
	}, nil
}
