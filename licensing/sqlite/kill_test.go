package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// claimant is the environment variable that makes the test binary a server that
// claims leases from the ledger it names until it is killed.
const claimant = "OVSA_TEST_CLAIMANT"

func TestMain(m *testing.M) {
	if path := os.Getenv(claimant); path != "" {
		if err := claimForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sold is the licence of which it does.
var sold = ledger.Licence{GUID: "g", Model: "m", Type: ledger.Sale, Document: []byte("d"), Primary: []byte("p"), Secondary: []byte("s")}

// claimForEver prints the ID of each lease that it was given, and "!" for each
// refusal.
func claimForEver(path string) error {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	if _, err := l.Store(ctx, sold, now, nil); err != nil { // unless it is there
		return err
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				c := ledger.Claim{GUID: "g", Model: "m", Guest: fmt.Sprint(os.Getpid(), worker, i), Expires: now.Add(time.Hour)}
				lease, err := l.Claim(ctx, c, now)
				if err != nil {
					fmt.Println("!", err)
					continue
				}
				fmt.Println(lease.ID)
			}
		})
	}
	all.Wait()
	return nil
}

// TestKilledUnderLoad kills a process that claims leases 200 times. Every lease
// that it told of is in the ledger, counted once and logged, and the chain holds.
func TestKilledUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ovsa.db")
	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Store(t.Context(), sold, now, nil); err != nil {
		t.Fatal(err)
	}
	told := make(map[string]bool)
	for range 200 {
		for _, id := range claimUntilKilled(t, path) {
			told[id] = true
		}
	}
	if len(told) < 200 {
		t.Fatalf("only %d leases were given: the test shows nothing", len(told))
	}
	logged := make(map[string]int)
	if err := l.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.What == "claim" && e.Refused == "" {
			logged[e.Lease]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id := range told {
		if logged[id] != 1 {
			t.Errorf("lease %s was told and logged %d times", id, logged[id])
		}
	}
	usage, err := l.Usage(t.Context(), "g", "m", now)
	if err != nil || usage.Claims != int64(len(logged)) || usage.Held != len(logged) {
		t.Errorf("usage %+v, %d leases logged, %v", usage, len(logged), err)
	}
	if n, _, err := l.VerifyAudit(t.Context(), nil); err != nil || n != int64(len(logged))+1 {
		t.Errorf("%d entries, %v", n, err)
	}
	t.Logf("%d leases told, %d in the ledger", len(told), len(logged))
}

func claimUntilKilled(t *testing.T, path string) (told []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), claimant+"="+path)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10*time.Millisecond + rand.N(40*time.Millisecond))
	cmd.Process.Kill()
	cmd.Wait()
	if errs.Len() > 0 {
		t.Fatalf("the server: %s", errs.String())
	}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		line := lines.Text()
		if line[0] == '!' {
			t.Fatalf("a claim failed: %s", line)
		}
		if len(line) == 32 { // the last may be cut
			told = append(told, line)
		}
	}
	return told
}
