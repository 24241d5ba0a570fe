package enrol

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Allowed is a host on an allow list.
type Allowed struct {
	Host string   `json:"host"` // its ID, or the SHA-256 of its EK certificate
	VMs  []string `json:"vms"`  // that it may vouch for at most; none for any
}

// List is the hosts that are allowed, in the order of the file.
func (l AllowList) List() ([]Allowed, error) {
	data, err := l.text()
	if err != nil {
		return nil, err
	}
	all, err := parseList(data)
	if err != nil {
		return nil, fmt.Errorf("read allow list %q: %w", l.Path, err)
	}
	return all, nil
}

func (l AllowList) text() ([]byte, error) {
	f, err := os.Open(l.Path)
	if err != nil {
		return nil, fmt.Errorf("read allow list: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxAllowList+1))
	if err != nil {
		return nil, fmt.Errorf("read allow list: %w", err)
	}
	return data, nil
}

// With is the text of an allow list with one more host, and whether it had to be
// added: one that is listed already keeps its line, whatever limits that has.
func With(list []byte, a Allowed) (text []byte, added bool, err error) {
	all, err := parseList(list)
	if err != nil {
		return nil, false, err
	}
	if slices.ContainsFunc(all, func(b Allowed) bool { return b.Host == a.Host }) {
		return list, false, nil
	}
	text = slices.Clone(list)
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	line := strings.Join(append([]string{a.Host}, a.VMs...), " ")
	text = append(append(text, line...), '\n')
	// The whole is parsed again, as the server will.
	if _, err := parseList(text); err != nil {
		return nil, false, fmt.Errorf("allow %q: %w", a.Host, err)
	}
	return text, true, nil
}

// Without is the text of an allow list without a host, and whether that was listed.
func Without(list []byte, host string) (text []byte, removed bool, err error) {
	if _, err := parseList(list); err != nil {
		return nil, false, err
	}
	for line := range bytes.Lines(list) {
		words, _, _ := bytes.Cut(line, []byte("#"))
		if fields := bytes.Fields(words); len(fields) > 0 && string(fields[0]) == host {
			removed = true
			continue
		}
		text = append(text, line...)
	}
	return text, removed, nil
}
