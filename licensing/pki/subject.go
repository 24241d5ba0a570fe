package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// attribute is a kind of name that a subject may have, with X.520's bound.
type attribute struct {
	name string
	oid  asn1.ObjectIdentifier
	max  int // characters
}

var attributes = []attribute{
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, 2},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, 128},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, 128},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, 64},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, 64},
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, 64},
	{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}, 64},
	{"emailAddress", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, 255},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, 63},
}

// maxAttributes is how many a subject has at most.
const maxAttributes = 16

// Subject is the encoded name of a certificate's owner.
type Subject []byte

// ParseSubject parses a subject as openssl's -subj takes it: /TYPE=VALUE for each
// part. A backslash makes the character after it a part of the value. What it does
// not know is an error and not left out.
func ParseSubject(s string) (Subject, error) {
	subject, err := parseSubject(s)
	if err != nil {
		return nil, fmt.Errorf("parse subject %q: %w", s, err)
	}
	return subject, nil
}

func parseSubject(s string) (Subject, error) {
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return nil, errors.New(`it begins with /, as in "/C=IN/CN=localhost"`)
	}
	if !utf8.ValidString(s) {
		return nil, errors.New("it is not UTF-8")
	}
	var rdns pkix.RDNSequence
	for rest != "" {
		var part string
		var err error
		if part, rest, err = cutPart(rest); err != nil {
			return nil, err
		}
		if len(rdns) == maxAttributes {
			return nil, fmt.Errorf("more than %d parts", maxAttributes)
		}
		value, err := parsePart(part)
		if err != nil {
			return nil, err
		}
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{value})
	}
	if len(rdns) == 0 {
		return nil, errors.New("it names nobody")
	}
	return asn1.Marshal(rdns)
}

// cutPart returns what is before the next / that no backslash precedes.
func cutPart(s string) (part, rest string, err error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", errors.New("nothing after its last backslash")
			}
		case '/':
			if i+1 == len(s) {
				return "", "", errors.New("nothing after its last /")
			}
			return s[:i], s[i+1:], nil
		}
	}
	return s, "", nil
}

func parsePart(part string) (pkix.AttributeTypeAndValue, error) {
	var none pkix.AttributeTypeAndValue
	name, escaped, ok := strings.Cut(part, "=")
	i := slices.IndexFunc(attributes, func(a attribute) bool { return a.name == name })
	if !ok || i < 0 {
		return none, fmt.Errorf("%q is not TYPE=VALUE with a type among %s", part, attributeNames())
	}
	value := unescape(escaped)
	n := utf8.RuneCountInString(value)
	if n == 0 || n > attributes[i].max || name == "C" && !isCountry(value) {
		if name == "C" {
			return none, fmt.Errorf("%q is not a country's two letters", part)
		}
		return none, fmt.Errorf("%s has %d characters, want 1 to %d", name, n, attributes[i].max)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return none, fmt.Errorf("%s has a character that does not print", name)
	}
	if name != "emailAddress" && name != "DC" {
		return pkix.AttributeTypeAndValue{Type: attributes[i].oid, Value: value}, nil
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r > unicode.MaxASCII }) {
		return none, fmt.Errorf("%s has a character that is not ASCII", name)
	}
	return pkix.AttributeTypeAndValue{Type: attributes[i].oid, Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}}, nil
}

func isCountry(s string) bool {
	return len(s) == 2 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func attributeNames() string {
	var names []string
	for _, a := range attributes {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}
