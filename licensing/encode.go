package licensing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// marshal returns the one encoding of v: compact JSON in the order of the type's
// fields, nothing escaped that JSON does not ask for.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unmarshal accepts what marshal makes and nothing else: unknown, repeated,
// missing or differently spelled fields, other spacing, other escapes and trailing
// bytes are all another encoding.
func unmarshal(b []byte, v any, max int) error {
	if len(b) > max {
		return fmt.Errorf("%w: more than %d bytes", ErrFormat, max)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %s", ErrFormat, plainJSON(err))
	}
	again, err := marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: not in its one encoding", ErrFormat)
	}
	return nil
}

// plainJSON is a decoder's error without the name of a Go type.
func plainJSON(err error) string {
	return strings.TrimPrefix(err.Error(), "json: ")
}

// instant is t as documents hold it: UTC, whole seconds.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func checkInstant(what string, t time.Time) error {
	if t.IsZero() || !t.Equal(instant(t)) || t.Location() != time.UTC {
		return fmt.Errorf("the %s is not a time in UTC and whole seconds", what)
	}
	return nil
}
