package ovsaruntime

import (
	"context"
	"encoding/hex"
	"errors"
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

func quoteCommand() guestcli.Command {
	return guestcli.Command{
		Name:    "quote",
		Summary: "print a quote of this guest's TPM over the nonce, with the host's record, as JSON",
		Flags: []guestcli.Flag{
			{Name: "nonce", Arg: "HEX", Help: "what whoever will check the quote has chosen", Required: true},
			keystore.TPM(), hostPort(),
			{Name: "out", Arg: "FILE", Kind: guestcli.File, Help: "write it there"},
		},
		Example: "quote --nonce $(openssl rand -hex 32)",
		NoJSON:  "a quote is JSON",
		Run:     runQuote,
	}
}

func runQuote(ctx context.Context, c *guestcli.Call) error {
	nonce, err := hex.DecodeString(c.Text("nonce"))
	if err != nil || len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return hint.Wrap(guestcli.Usagef("--nonce is %d to %d bytes in hex", quote.MinNonce, quote.MaxNonce),
			"whoever will check the quote chooses it; to try: --nonce $(openssl rand -hex 32)")
	}
	evidence, err := guest.Quote(ctx, c.Text("tpm"), nonce, hostOf(c))
	if err != nil {
		return explainTPM(err, c.Text("tpm"))
	}
	text, err := evidence.Marshal() // its one encoding
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if out := c.Text("out"); out != "" {
		if err := atomicfile.WriteOwned(out, text, 0o644); err != nil { // public: it holds no secret
			return err
		}
		c.Say("%s: a quote of %s over the nonce", out, c.Text("tpm"))
		return nil
	}
	_, err = c.Stdout.Write(text)
	return err
}

// noPort is the -host-port of a guest that asks nobody.
const noPort = "none"

func hostPort() guestcli.Flag {
	return guestcli.Flag{
		Name: "host-port", Arg: "PORT", Kind: guestcli.File, Setting: true, Default: guest.DefaultPort,
		Help: "port to the host's attestation service, whose word goes with the quote; none does without, which licence servers do not take",
	}
}

// hostOf is the host to ask for its word: nobody, when nobody shall be asked.
func hostOf(c *guestcli.Call) guest.Host {
	if port := c.Text("host-port"); port != noPort {
		return guest.Port(port)
	}
	return nil
}

// explainTPM says what to do about a TPM that cannot be opened.
func explainTPM(err error, path string) error {
	switch {
	case errors.Is(err, guest.ErrNoHost):
		return hint.Wrap(err, "%s; -host-port %s quotes without the host's word", hint.Of(err), noPort)
	case errors.Is(err, guest.ErrHost):
		return err
	case errors.Is(err, os.ErrNotExist):
		return hint.Wrap(err, "this guest has no TPM at %s; does its role have a vtpm block?", path)
	case errors.Is(err, os.ErrPermission):
		return hint.Wrap(err, "run it as root, or as a member of the group that owns %s", path)
	}
	return err
}
