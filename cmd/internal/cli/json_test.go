package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ovsactl/ovsactl/internal/remote"
)

// TestEveryVerbHasJSON: a verb that reports something does so for programs, too. Those
// that do not say why.
func TestEveryVerbHasJSON(t *testing.T) {
	without := map[string]string{
		"ovsactl console":     "a terminal",
		"ovsactl ssh":         "a terminal, or a command's own output",
		"ovsactl lab run":     "a command's own output",
		"ovsactl lab shell":   "a terminal",
		"ovsactl logs":        "the guest's own output",
		"ovsactl screenshot":  "a file that was named, and nothing to say",
		"ovsactl cp":          "files that were named, and nothing to say",
		"ovsactl host attest": "a service, whose log is on standard error",
	}
	env, _ := testEnv(nil)
	for _, c := range shownIn(newRoot(env)) {
		if c.HasSubCommands() {
			continue
		}
		has, reason := c.Flags().Lookup("json") != nil, without[c.CommandPath()]
		if has == (reason != "") {
			t.Errorf("%s: --json is there: %t; it is not needed, since %q", c.CommandPath(), has, reason)
		}
		delete(without, c.CommandPath())
	}
	for path := range without {
		t.Errorf("there is no %s", path)
	}
}

// Each line of a command's output, and its end, is an object by itself.
func TestExecJSON(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{mu: &sync.Mutex{}, w: &out, layout: asOutput("a", "stderr")}
	fmt.Fprint(w, "one\r\ntwo \"q\" \xff\nthree")
	w.flush()
	for _, want := range []outputJSON{{"a", "stderr", "one"}, {"a", "stderr", "two \"q\" \ufffd"}, {"a", "stderr", "three"}} {
		line, err := out.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var got outputJSON
		if err := json.Unmarshal(line, &got); err != nil || got != want {
			t.Errorf("%s: %v, want %+v", line, err, want)
		}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, `{"role":"a","exit":0}`},
		{&remote.ExitError{Command: "false", Code: 3}, `{"role":"a","exit":3,"error":"`},
		{errors.New("no route"), `{"role":"a","exit":null,"error":"no route"}`},
	} {
		b, err := json.Marshal(endOf("a", tt.err))
		if err != nil || !bytes.HasPrefix(b, []byte(tt.want)) {
			t.Errorf("%v: %s, %v", tt.err, b, err)
		}
	}
}
