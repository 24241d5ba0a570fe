package guestcli

import (
	"encoding/json"
	"io"
)

// JSON is -json, with which a command says what it found or did to programs.
func JSON() Flag { return Flag{Name: "json", Help: "say it as JSON, on standard output"} }

// Report says what a command did: a line for people on Stderr or, with -json, v on
// Stdout. It is the last that a command does, since what it says is done.
func (c *Call) Report(v any, format string, args ...any) error {
	if c.Has("json") {
		return WriteJSON(c.Stdout, v)
	}
	c.Say(format, args...)
	return nil
}

// WriteJSON writes a value for programs.
func WriteJSON(w io.Writer, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(out, '\n'))
	return err
}
