// Package tensorjson reads and writes JSON that has tensors in it: their elements go
// from the text into a tensor's data, and back, with nothing between. It is strict: a
// member that is there twice, a number that its type cannot hold, arrays of different
// lengths beside each other are errors.
package tensorjson

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// maxDepth is how deep arrays and objects may be in each other.
const maxDepth = 64

// MaxMembers is how many members an object may have. They are remembered.
const MaxMembers = 4096

// Reader reads a JSON text, one value after the other. Its errors are
// inference.ErrInvalid, and say where.
type Reader struct {
	// Base64 lets {"b64": "..."} be a text that has any bytes.
	Base64 bool

	text  []byte
	at    int
	depth int
}

// NewReader reads a text. Strings and what Skip returns may be parts of it.
func NewReader(text []byte) *Reader { return &Reader{text: text} }

func (r *Reader) fail(format string, args ...any) error {
	return fmt.Errorf("%w: JSON at byte %d: %s", inference.ErrInvalid, r.at, fmt.Sprintf(format, args...))
}

// Next is the first byte of the next value, 0 at the end.
func (r *Reader) Next() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *Reader) take(c byte) error {
	if got := r.Next(); got != c {
		return r.unexpected(fmt.Sprintf("%q", c))
	}
	r.at++
	return nil
}

func (r *Reader) unexpected(wanted string) error {
	if r.at >= len(r.text) {
		return r.fail("it ends where %s is expected", wanted)
	}
	return r.fail("%q where %s is expected", r.text[r.at], wanted)
}

// End says whether the text is over.
func (r *Reader) End() error {
	if r.Next() != 0 || r.at < len(r.text) {
		return r.unexpected("the end")
	}
	return nil
}

// Object reads an object. The function is called for each member, and reads its value.
func (r *Reader) Object(member func(key string) error) error {
	seen := map[string]bool{}
	return r.list('{', '}', "an object", func() error {
		key, err := r.String()
		if err != nil {
			return err
		}
		if seen[key] {
			return r.fail("member %q is there twice", key)
		}
		if seen[key] = true; len(seen) > MaxMembers {
			return r.fail("an object with more than %d members", MaxMembers)
		}
		if err := r.take(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// Array reads an array. The function is called for each element, and reads it.
func (r *Reader) Array(element func() error) error { return r.list('[', ']', "an array", element) }

func (r *Reader) list(open, end byte, what string, item func() error) error {
	if r.Next() != open {
		return r.unexpected(what)
	}
	if r.depth++; r.depth > maxDepth {
		return r.fail("more than %d arrays and objects in each other", maxDepth)
	}
	defer func() { r.depth-- }()
	r.at++
	if r.Next() == end {
		r.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch r.Next() {
		case ',':
			r.at++
		case end:
			r.at++
			return nil
		default:
			return r.unexpected(fmt.Sprintf("%q", end))
		}
	}
}

// Skip reads a value of any kind, and returns its text.
func (r *Reader) Skip() ([]byte, error) {
	kind := r.Next()
	began := r.at
	var err error
	switch kind {
	case '{':
		err = r.Object(func(string) error { _, err := r.Skip(); return err })
	case '[':
		err = r.Array(func() error { _, err := r.Skip(); return err })
	case '"':
		_, err = r.quoted()
	case 't', 'f', 'n', 'N', 'I':
		_, err = r.word()
	default:
		_, err = r.number()
	}
	return r.text[began:r.at], err
}

// String reads a string.
func (r *Reader) String() (string, error) {
	s, err := r.quoted()
	return string(s), err
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	if c := r.Next(); c != 't' && c != 'f' {
		return false, r.unexpected("true or false")
	}
	w, err := r.word()
	return w == "true", err
}

// Int reads a number without a fraction and an exponent.
func (r *Reader) Int() (int64, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	i, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		return 0, r.fail("%s is not an INT64", n)
	}
	return i, nil
}

// The words that JSON has, and those for numbers that it cannot write. Clients and
// servers of both protocols read and write these.
var words = []string{"true", "false", "null", "NaN", "Infinity", "-Infinity"}

func (r *Reader) word() (string, error) {
	rest := r.text[r.at:]
	for _, w := range words {
		if len(rest) >= len(w) && string(rest[:len(w)]) == w {
			r.at += len(w)
			return w, nil
		}
	}
	return "", r.unexpected("a value")
}

// number reads a number, or a word for one.
func (r *Reader) number() ([]byte, error) {
	r.Next()
	began, at, text := r.at, r.at, r.text
	digits := func() bool {
		from := at
		for at < len(text) && text[at]-'0' < 10 {
			at++
		}
		return at > from
	}
	is := func(c byte) bool { return at < len(text) && text[at] == c }
	if is('-') {
		at++
	}
	if is('I') || is('N') {
		_, err := r.word()
		return text[began:r.at], err
	}
	zero := is('0')
	if from := at; !digits() || zero && at > from+1 {
		return nil, r.unexpected("a value")
	}
	if is('.') {
		if at++; !digits() {
			return nil, r.fail("a number without digits after its point")
		}
	}
	if is('e') || is('E') {
		if at++; is('+') || is('-') {
			at++
		}
		if !digits() {
			return nil, r.fail("a number without digits in its exponent")
		}
	}
	r.at = at
	return text[began:at], nil
}

// quoted reads a string. Where it has no escapes it is a part of the text.
func (r *Reader) quoted() ([]byte, error) {
	if r.Next() != '"' {
		return nil, r.unexpected("a string")
	}
	r.at++
	from := r.at
	var own []byte // what is before from, unescaped
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			s := r.text[from:r.at:r.at]
			if own != nil {
				s = append(own, s...)
			}
			if !utf8.Valid(s) {
				return nil, r.fail("a string that is not UTF-8")
			}
			r.at++
			return s, nil
		case c < ' ':
			return nil, r.fail("a control character in a string")
		case c == '\\':
			own = append(own, r.text[from:r.at]...)
			char, err := r.escape()
			if err != nil {
				return nil, err
			}
			own = utf8.AppendRune(own, char)
			from = r.at
		default:
			r.at++
		}
	}
	return nil, r.fail("it ends in a string")
}

var escapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (r *Reader) escape() (rune, error) {
	rest := r.text[r.at:]
	if len(rest) < 2 {
		return 0, r.fail("it ends in a string")
	}
	if c, is := escapes[rest[1]]; is {
		r.at += 2
		return c, nil
	}
	c, err := r.unit(rest)
	if err != nil {
		return 0, err
	}
	r.at += 6
	if !utf16.IsSurrogate(c) {
		return c, nil
	}
	low, err := r.unit(r.text[r.at:])
	if err != nil {
		return 0, err
	}
	if c = utf16.DecodeRune(c, low); c == utf8.RuneError {
		return 0, r.fail("half of a surrogate pair in a string")
	}
	r.at += 6
	return c, nil
}

// unit is one of UTF-16: \uXXXX.
func (r *Reader) unit(text []byte) (rune, error) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, r.fail("an escape that JSON does not have, or half of a surrogate pair")
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0, r.fail("an escape that JSON does not have")
	}
	return rune(n), nil
}

// IsBase64 says whether the next value is {"b64": ...}.
func (r *Reader) IsBase64() bool {
	if r.Next() != '{' {
		return false
	}
	ahead := *r
	ahead.at++
	key, err := ahead.String()
	return err == nil && key == "b64"
}

func (r *Reader) base64() ([]byte, error) {
	var text []byte
	found := false
	err := r.Object(func(key string) error {
		if key != "b64" {
			return r.fail("member %q beside \"b64\"", key)
		}
		found = true
		s, err := r.quoted()
		if err != nil {
			return err
		}
		// Python's clients pad; others need not.
		encoding := base64.StdEncoding
		if len(s)%4 != 0 {
			encoding = base64.RawStdEncoding
		}
		if text, err = encoding.AppendDecode(nil, s); err != nil {
			return r.fail("a text that is not base64: %v", err)
		}
		return nil
	})
	if err == nil && !found {
		err = r.fail("an object without \"b64\"")
	}
	return text, err
}
