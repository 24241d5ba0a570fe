package ovsatool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/cmd/internal/tpmseal"
	"github.com/ovsactl/ovsactl/licensing"
)

// Machine are the Ports of the machine that this runs on.
func Machine() Ports {
	return Ports{
		Now:    time.Now,
		Sealer: func(address string, pcrs []int) licensing.Sealer { return tpmseal.Sealer{Address: address, PCRs: pcrs} },
		Secret: askSecret,
	}
}

// maxSecret is how long a line with a secret may be.
const maxSecret = 1 << 10

// askSecret asks at the terminal that in is, and reads a line of in when it is
// none.
func askSecret(in io.Reader, prompt string) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(os.Stderr, prompt)
		defer fmt.Fprintln(os.Stderr)
		line, err := term.ReadPassword(int(f.Fd()))
		defer clear(line)
		return string(line), err
	}
	if in == nil {
		return "", errors.New("there is neither a terminal nor an input")
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxSecret)).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", errors.New("standard input has no line")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
