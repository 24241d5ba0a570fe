package remote_test

import (
	"bufio"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/remote/remotetest"
)

// connected is a client and a connection to a fresh server.
func connected(t *testing.T) (*remote.Client, *remotetest.Server, *remote.Conn) {
	t.Helper()
	client, err := remote.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := remotetest.New(t, client.AuthorizedKey()).Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := client.Connect(ctx, s.Target())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client, s, conn
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func lines(text string) []string {
	var all []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}
