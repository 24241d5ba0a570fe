package licenseserver

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	proto "github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

func explainCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "explain", Operands: "REQUEST", Min: 1, Max: 1,
		Summary: "say why a request was refused, and what would allow it; REQUEST is what its client was told",
		Flags: []guestcli.Flag{dbFlag(), jsonFlag(), {Name: "reference", Arg: "FILE", Kind: guestcli.File,
			Help: "of a guest that is as it should be: its answer to ovsaruntime quote, or its firmware's event log; without, the first guest's that was"}},
		Example: "explain 3f2a91c07e5d4b18a6c09d7be1f4a253",
		Run:     run(reading(reader.explain)),
	}
}

// explanation is why a request was refused.
type explanation struct {
	proto.Refusal
	Customer string      `json:"customer,omitempty"`
	TCBs     []compared  `json:"tcbs,omitempty"`  // of the licence as it is stored today
	Allow    []allowance `json:"allow,omitempty"` // ways to allow it
}

// compared is a refused state beside one of the licence's TCBs.
type compared struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	ID      string    `json:"id"`      // as it is revoked
	Differs []differs `json:"differs"` // none: the licence allows the state by now
}

// differs is a register that is not as a TCB wants it.
type differs struct {
	Of    string `json:"of"` // guest or host
	PCR   int    `json:"pcr"`
	Use   string `json:"use,omitempty"`
	Is    string `json:"is,omitempty"` // hex; "" when it was not quoted
	Wants string `json:"wants"`
	// Event is the first event of the register that differs from the reference.
	Event *event `json:"event,omitempty"`
	Note  string `json:"note,omitempty"` // why there is none
}

// event is where two logs part. What is said of an event is its firmware's word; its
// digest is what the register has.
type event struct {
	Place       int    `json:"place"` // in the guest's log, from 1
	Is          string `json:"is"`    // "" when the log ends before
	IsDigest    string `json:"is_digest,omitempty"`
	Wants       string `json:"wants"`
	WantsDigest string `json:"wants_digest,omitempty"`
}

// allowance is a command, and where it is run.
type allowance struct {
	Who     string `json:"who"`
	Command string `json:"command"`
}

func (r reader) explain() error {
	refusal, err := r.refusal(r.Operands[0])
	if err != nil {
		return err
	}
	e := explanation{Refusal: refusal}
	var document licensing.Licence
	stored, err := r.ledger.Licence(r.ctx, string(e.Licence), string(e.Model))
	switch {
	case err == nil:
		row, doc, _, err := read(stored)
		if err != nil {
			return err
		}
		e.Customer, document = row.Customer, doc
	case !errors.Is(err, ledger.ErrNoLicence) && !errors.Is(err, ledger.ErrArchived):
		return err
	}
	if e.State != nil {
		var given []byte
		if r.Has("reference") {
			if given, err = readReference(r.Text("reference")); err != nil {
				return err
			}
		}
		for _, tcb := range document.TCBs {
			c, err := r.compare(tcb, *e.State, given)
			if err != nil {
				return err
			}
			e.TCBs = append(e.TCBs, c)
		}
	}
	e.Allow = allow(e)
	if r.json {
		e.State = nil // what matters of it is in TCBs
		return writeJSON(r.Stdout, e)
	}
	return e.write(r.Stdout)
}

// requestDigits are the digits of a request's name.
const requestDigits = 32

// refusal looks up a refused request.
func (r reader) refusal(word string) (proto.Refusal, error) {
	name := strings.ToLower(word)
	if len(name) != requestDigits || strings.Trim(name, "0123456789abcdef") != "" {
		return proto.Refusal{}, hint.Wrap(guestcli.Usagef("%q: want the %d hexadecimal digits of a request", word, requestDigits),
			"the client was told them, and the server's log has them as \"request\"")
	}
	stored, err := r.ledger.Refusal(r.ctx, name)
	if errors.Is(err, ledger.ErrNoRefusal) {
		return proto.Refusal{}, hint.Wrap(err, "only the latest refusals are kept, and of those only that decided about a licence; the server's log has all: look for the request there")
	}
	if err != nil {
		return proto.Refusal{}, err
	}
	return proto.ParseRefusal(stored.Data)
}

// readReference reads the event log of a guest that is as it should be.
func readReference(path string) ([]byte, error) {
	data, err := guestcli.ReadFile(path, quote.MaxEvidence+1)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(data, []byte("{")) {
		return data, nil
	}
	evidence, err := quote.ParseEvidence(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, fmt.Errorf("-reference %q: %w", path, err)
	}
	if len(evidence.EventLog) == 0 {
		return nil, hint.Wrap(fmt.Errorf("-reference %q: it has no event log", path), "have root run ovsaruntime quote, in a guest that has a virtual TPM")
	}
	return evidence.EventLog, nil
}

// compare compares a state with a TCB. given is a reference log, nil for what the
// ledger kept.
func (r reader) compare(tcb licensing.TCB, state proto.State, given []byte) (compared, error) {
	id, err := tcb.ID()
	if err != nil {
		return compared{}, err
	}
	if given == nil {
		kept, err := r.ledger.Log(r.ctx, id)
		if err != nil {
			return compared{}, err
		}
		if kept != nil {
			if given, err = proto.ParseLog(kept); err != nil {
				return compared{}, err
			}
		}
	}
	c := compared{tcb.Name, tcb.Version, id, []differs{}}
	logs, err := newLogs(state.EventLog, given)
	if err != nil {
		return compared{}, err
	}
	for _, d := range registers("guest", tcb.Guest.PCRs, state.Guest) {
		c.Differs = append(c.Differs, logs.locate(d))
	}
	for _, d := range registers("host", tcb.Host.PCRs, state.Host) {
		d.Note = "hosts do not send their logs: see /sys/kernel/security/tpm0/binary_bios_measurements there"
		c.Differs = append(c.Differs, d)
	}
	return c, nil
}

// registers are those that differ.
func registers(of string, want, have []quote.PCR) []differs {
	values := map[int][]byte{}
	for _, p := range have {
		values[p.Index] = p.Digest
	}
	var all []differs
	for _, p := range want {
		if !bytes.Equal(values[p.Index], p.Digest) {
			all = append(all, differs{Of: of, PCR: p.Index, Use: quote.RegisterUse(p.Index), Is: hex.EncodeToString(values[p.Index]), Wants: hex.EncodeToString(p.Digest)})
		}
	}
	return all
}

// logs are a guest's event log and one of a guest that is as it should be.
type logs struct{ is, wants eventLog }

// eventLog is a log and the values that it leads to.
type eventLog struct {
	events []quote.Event
	values map[int][]byte
}

func newLogs(is, wants []byte) (l logs, err error) {
	if l.is, err = newEventLog(is); err != nil {
		return l, fmt.Errorf("the guest's log: %w", err)
	}
	if l.wants, err = newEventLog(wants); err != nil {
		return l, fmt.Errorf("the reference: %w", err)
	}
	return l, nil
}

func newEventLog(data []byte) (l eventLog, err error) {
	if len(data) == 0 {
		return l, nil
	}
	if l.events, err = quote.ParseLog(data); err != nil {
		return l, err
	}
	l.values, err = quote.Replay(l.events)
	return l, err
}

// leads says whether a log accounts for a register's value.
func (l eventLog) leads(pcr int, value string) bool {
	return l.events != nil && hex.EncodeToString(l.values[pcr]) == value
}

// locate adds the first event that differs, or why none can be told.
func (l logs) locate(d differs) differs {
	switch {
	case l.is.events == nil:
		d.Note = "the guest sent no event log"
	case !l.is.leads(d.PCR, d.Is):
		d.Note = "the firmware's log does not lead to it: it was extended afterwards"
	case l.wants.events == nil:
		d.Note = "no guest was in this state yet: give the log of one with -reference"
	case !l.wants.leads(d.PCR, d.Wants):
		d.Note = "the reference does not lead to what is wanted: it is of another state"
	}
	if d.Note != "" {
		return d
	}
	diff := quote.FirstDifference(l.is.events, l.wants.events, d.PCR)
	if diff == nil {
		d.Note = "the logs do not differ" // then the values do not, either
		return d
	}
	d.Event = &event{Place: diff.Place}
	if diff.Is != nil {
		d.Event.Is, d.Event.IsDigest = diff.Is.Describe(), hex.EncodeToString(diff.Is.Digest)
	}
	if diff.Wants != nil {
		d.Event.Wants, d.Event.WantsDigest = diff.Wants.Describe(), hex.EncodeToString(diff.Wants.Digest)
	}
	return d
}

func (e explanation) write(out io.Writer) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s%s\n", name+":", visible.Line(value))
		}
	}
	line("request", e.Request)
	line("at", e.At.UTC().Format(time.RFC3339)+" from "+e.Peer)
	line("answer", fmt.Sprintf("%s (%s)", e.Code, e.Code.Sentence()))
	check := string(e.Check)
	if e.Step != "" {
		check += ", step " + fmt.Sprintf("%q", e.Step)
	}
	line("check", check)
	line("because", e.Cause)
	line("customer", e.Customer)
	line("licence", string(e.Licence))
	line("model", string(e.Model))
	line("guest", e.Guest)
	line("lease", e.Lease)
	line("vm", e.VM)
	line("host", e.Host)
	for _, c := range e.TCBs {
		c.write(&b)
	}
	if len(e.Allow) == 0 {
		b.WriteString("\nNothing that an administrator may do would allow it.\n")
	} else {
		b.WriteString("\nTo allow it:\n")
	}
	for _, a := range e.Allow {
		fmt.Fprintf(&b, "  %s: %s\n", a.Who, visible.Line(a.Command))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (c compared) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nTCB %s %s\n", visible.Line(c.Name), visible.Line(c.Version))
	if len(c.Differs) == 0 {
		b.WriteString("  allows this state by now\n")
	}
	for _, d := range c.Differs {
		fmt.Fprintf(b, "  %s's PCR %d", d.Of, d.PCR)
		if d.Use != "" {
			fmt.Fprintf(b, " (%s)", d.Use)
		}
		fmt.Fprintf(b, "\n    is     %s\n    wants  %s\n", orDash(d.Is), d.Wants)
		if d.Note != "" {
			fmt.Fprintf(b, "    %s\n", d.Note)
		}
		if d.Event != nil {
			fmt.Fprintf(b, "    first difference: event %d\n      is     %s %s\n      wants  %s %s\n", d.Event.Place,
				orDash(visible.Line(d.Event.Is)), d.Event.IsDigest, orDash(visible.Line(d.Event.Wants)), d.Event.WantsDigest)
		}
	}
}
