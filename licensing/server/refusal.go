package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Check is what refused a request. There are few: metrics count by them.
type Check string

const (
	CheckRequest    Check = "request"    // it is none of this protocol
	CheckRate       Check = "rate"       // there are too many of them
	CheckLicence    Check = "licence"    // it is stored, and not archived
	CheckISV        Check = "isv"        // its signer is believed
	CheckCustomer   Check = "customer"   // the customer's certificates are believed
	CheckPossession Check = "possession" // the guest has the customer's keys
	CheckTPM        Check = "tpm"        // keys of the guest's TPM are good, and in one TPM
	CheckChallenge  Check = "challenge"  // it is answered once, in time
	CheckEvidence   Check = "evidence"   // a step of quote.VerifyEvidence, or the release key
	CheckHost       Check = "host"       // the host is enrolled, by whom the server believes
	CheckAge        Check = "record age" // the host's record is not too old
	CheckState      Check = "state"      // guest and host are in one of the licence's TCBs
	CheckRevoked    Check = "revoked"    // nothing that it is about is revoked
	CheckTerm       Check = "term"       // the licence's time is not over
	CheckSeats      Check = "seats"      // fewer guests hold a lease than may
	CheckRollback   Check = "rollback"   // the guest's TPM, and the host's boot, go on from where they were
	CheckCopy       Check = "copy"       // the guest's TPM is none of several copies
	CheckLease      Check = "lease"      // it is held by whom it was given to
	CheckServer     Check = "server"     // the server can answer
)

// Refusal is a refused request, as the server's administrator may learn of it.
type Refusal struct {
	Request string         `json:"request"`
	At      time.Time      `json:"at"`
	Peer    string         `json:"peer"`
	Path    string         `json:"path"`
	Code    exchange.Code  `json:"code"` // what the client was told
	Check   Check          `json:"check"`
	Step    string         `json:"step,omitempty"` // of the evidence's verification
	Cause   string         `json:"cause"`
	Licence licensing.GUID `json:"licence,omitempty"`
	Model   licensing.GUID `json:"model,omitempty"`
	Guest   string         `json:"guest,omitempty"`
	Lease   string         `json:"lease,omitempty"`
	Host    string         `json:"host,omitempty"`
	VM      string         `json:"vm,omitempty"`

	Revoked *ledger.Subject `json:"revoked,omitempty"`
	// State is what was verified of guest and host, where that is what was refused.
	State *State `json:"state,omitempty"`

	proven bool // whoever asked has the customer's keys, or the lease's
}

// State is what a guest and its host were in.
type State struct {
	Guest    []quote.PCR `json:"guest"`
	Host     []quote.PCR `json:"host"`
	EventLog []byte      `json:"event_log,omitempty"` // of the guest's firmware
}

const (
	// keptRefusals is how many refusals are remembered of each licence, and keptOthers
	// how many of requests that proved nothing.
	keptRefusals = 32
	keptOthers   = 256
	// Strangers cannot have much written.
	othersPerSecond = 1
	othersAtOnce    = 32

	rememberTime = 2 * time.Second // for which an answer waits for that
	maxCause     = 4096
	maxRefusal   = 2 << 20
)

// refused tells what is known of a refusal of req.
func (req *request) refused(err error) Refusal {
	r := req.about
	r.Request, r.At, r.Peer, r.Path = req.id, req.now.UTC(), req.peer, req.path
	r.Code, r.Check = codeOf(err), checkOf(err)
	r.Cause = err.Error()
	r.Cause = r.Cause[:min(len(r.Cause), maxCause)]
	r.Step = stepOf(err)
	var revoked *ledger.RevokedError
	if errors.As(err, &revoked) {
		r.Revoked = &revoked.Subject
	}
	if r.Check != CheckState {
		r.State = nil
	}
	return r
}

// remember keeps a refusal that is a decision about somebody's licence.
func (s *Server) remember(ctx context.Context, req *request, r Refusal) {
	switch r.Code {
	case exchange.NotAllowed, exchange.Revoked, exchange.Expired, exchange.Exhausted, exchange.LeaseOver:
	default:
		return
	}
	kept, keep := ledger.Refusal{Request: r.Request, At: r.At, GUID: string(r.Licence), Model: string(r.Model)}, keptRefusals
	if !r.proven {
		if !s.others.AllowN(req.now, 1) {
			return
		}
		kept.GUID, kept.Model, keep = "", "", keptOthers
	}
	var err error
	if kept.Data, err = pack(r); err == nil {
		ctx, cancel := context.WithTimeout(ctx, rememberTime)
		defer cancel()
		err = s.ledger.Remember(ctx, kept, keep)
	}
	if err != nil {
		req.log.Error("the refusal cannot be explained later", "error", err.Error())
	}
}

// pack is JSON, compressed: event logs repeat themselves.
func pack(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(data []byte, v any) error {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxRefusal+1))
	if err != nil {
		return err
	}
	if len(text) > maxRefusal {
		return fmt.Errorf("over %d bytes", maxRefusal)
	}
	return json.Unmarshal(text, v)
}

// ParseRefusal parses what a server had a ledger remember.
func ParseRefusal(data []byte) (Refusal, error) {
	var r Refusal
	if err := unpack(data, &r); err != nil {
		return Refusal{}, fmt.Errorf("parse refusal: %w", err)
	}
	return r, nil
}

// keepLog keeps the event log of a guest that is in a TCB, of the first in each.
func (s *Server) keepLog(ctx context.Context, req *request, tcb string, log []byte) {
	if _, known := s.logged.Get(tcb); known || len(log) == 0 {
		return
	}
	data, err := pack(log)
	if err == nil {
		err = s.ledger.KeepLog(ctx, tcb, data, req.now)
	}
	if err != nil {
		req.log.Error("the event log is no reference for refusals", "error", err.Error())
		return
	}
	s.logged.Add(tcb, struct{}{})
}

// ParseLog parses what a server had a ledger keep of a TCB: an event log.
func ParseLog(data []byte) ([]byte, error) {
	var log []byte
	if err := unpack(data, &log); err != nil {
		return nil, fmt.Errorf("parse kept event log: %w", err)
	}
	return log, nil
}
