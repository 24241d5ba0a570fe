package guestcli

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

func quoteCommand() Command {
	return Command{
		Name:    "quote",
		Usage:   "quote --nonce HEX [--tpm /dev/tpmrm0] [--out FILE]",
		Summary: "print a quote of this guest's TPM over the nonce, with the host's record, as JSON",
		Run:     runQuote,
	}
}

func runQuote(ctx context.Context, env Env) error {
	flags := flag.NewFlagSet("quote", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is told by the error alone
	nonceHex := flags.String("nonce", "", "")
	tpm := flags.String("tpm", "/dev/tpmrm0", "")
	out := flags.String("out", "", "")
	err := flags.Parse(env.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err := fmt.Fprintln(env.Stdout, "Usage: ovsaruntime", quoteCommand().Usage)
		return err
	case err != nil:
		return hint.Wrap(usagef("quote: %w", err), "ovsaruntime %s", quoteCommand().Usage)
	case flags.NArg() > 0:
		return hint.Wrap(usagef("quote: unexpected argument %q", flags.Arg(0)), "ovsaruntime %s", quoteCommand().Usage)
	}
	nonce, err := hex.DecodeString(*nonceHex)
	if err != nil || len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return hint.Wrap(usagef("quote: --nonce is %d to %d bytes in hex", quote.MinNonce, quote.MaxNonce),
			"whoever will check the quote chooses it; to try: --nonce $(openssl rand -hex 32)")
	}
	evidence, err := guest.Quote(ctx, *tpm, nonce)
	if err != nil {
		return fmt.Errorf("quote: %w", explainTPM(err, *tpm))
	}
	text, err := evidence.Marshal() // its one encoding
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	text = append(text, '\n')
	if *out != "" {
		return atomicfile.WriteFile(*out, text, 0o644) // public: it holds no secret
	}
	_, err = env.Stdout.Write(text)
	return err
}

// explainTPM says what to do about a TPM that cannot be opened.
func explainTPM(err error, path string) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return hint.Wrap(err, "this guest has no TPM at %s; does its role have a vtpm block?", path)
	case errors.Is(err, os.ErrPermission):
		return hint.Wrap(err, "run it as root, or as a member of the group that owns %s", path)
	}
	return err
}
