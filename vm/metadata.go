package vm

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"libvirt.org/go/libvirtxml"
)

// The element that holds [Metadata] in a domain's <metadata>.
const (
	MetadataNamespace = "https://ovsactl.dev/xmlns/domain/1"
	MetadataPrefix    = "ovsa"
)

// Limits of what ParseMetadata reads: anybody who may edit a domain may have
// written it.
const (
	maxMetadata   = 256 << 10
	maxHostKeys   = 16
	maxComponents = 256
)

// metadataXML is Metadata as text. Its tags carry no namespace: libvirt adds
// ours when it stores the element, and ParseMetadata checks for it.
type metadataXML struct {
	XMLName    xml.Name       `xml:"guest"`
	Role       string         `xml:"role"`
	Owner      string         `xml:"owner,omitempty"`
	Manifest   string         `xml:"manifest,omitempty"`
	Intent     string         `xml:"intent,omitempty"`
	Image      string         `xml:"image,omitempty"`
	Address    string         `xml:"address,omitempty"`
	User       string         `xml:"user,omitempty"`
	HostKeys   []string       `xml:"hostkey"`
	Components []componentXML `xml:"component"`
	CreatedAt  string         `xml:"created,omitempty"`
	ExpiresAt  string         `xml:"expires,omitempty"`
	DataDir    string         `xml:"datadir,omitempty"`
	Authority  string         `xml:"authority,omitempty"`
}

type componentXML struct {
	Name    string `xml:"name,attr"`
	Version string `xml:"version,attr,omitempty"`
	Digest  string `xml:"digest,attr,omitempty"`
}

// encode returns m as a <guest> element without namespace, the form that
// virDomainSetMetadata wants.
func (m Metadata) encode() ([]byte, error) {
	if m.Role == "" {
		return nil, errors.New("encode metadata: no role")
	}
	if len(m.Intent) > 0 && !json.Valid(m.Intent) {
		return nil, errors.New("encode metadata: intent is not JSON")
	}
	x := metadataXML{
		Role: m.Role, Owner: m.Owner, Manifest: m.Manifest, Intent: string(m.Intent), Image: m.Image,
		User: m.User, HostKeys: m.HostKeys, CreatedAt: formatTime(m.CreatedAt), ExpiresAt: formatTime(m.ExpiresAt), DataDir: m.DataDir,
		Authority: m.Authority,
	}
	if m.Address.IsValid() {
		x.Address = m.Address.String()
	}
	for _, c := range m.Components {
		x.Components = append(x.Components, componentXML(c))
	}
	out, err := xml.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	back, err := decodeMetadata(out, "")
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	if string(back.Intent) != string(m.Intent) || back.Owner != m.Owner || back.DataDir != m.DataDir || back.User != m.User {
		return nil, errors.New("encode metadata: a value has characters that XML cannot hold")
	}
	return out, nil
}

// namespaced is encode with every element in our namespace, as it stands in a
// domain's definition.
func (m Metadata) namespaced() (string, error) {
	plain, err := m.encode()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	dec, enc := xml.NewDecoder(bytes.NewReader(plain)), xml.NewEncoder(&out)
	enc.Indent("    ", "  ")
	for depth := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("encode metadata: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			t.Name.Local = MetadataPrefix + ":" + t.Name.Local
			if depth == 0 {
				t.Attr = append(t.Attr, xml.Attr{Name: xml.Name{Local: "xmlns:" + MetadataPrefix}, Value: MetadataNamespace})
			}
			depth++
			token = t
		case xml.EndElement:
			t.Name.Local = MetadataPrefix + ":" + t.Name.Local
			depth--
			token = t
		}
		if err := enc.EncodeToken(token); err != nil {
			return "", fmt.Errorf("encode metadata: %w", err)
		}
	}
	if err := enc.Close(); err != nil {
		return "", fmt.Errorf("encode metadata: %w", err)
	}
	return "\n" + out.String() + "\n  ", nil
}

// ParseMetadata finds our element in the content of a domain's <metadata>
// element. It returns false when there is none, and an error when there is one
// that is not as we write it: then the domain must not be taken for ours.
func ParseMetadata(content string) (Metadata, bool, error) {
	if len(content) > maxMetadata {
		return Metadata{}, false, fmt.Errorf("parse metadata: over %d bytes", maxMetadata)
	}
	element, err := findElement(content)
	if err != nil || element == "" {
		return Metadata{}, false, err
	}
	m, err := decodeMetadata([]byte(element), MetadataNamespace)
	if err != nil {
		return Metadata{}, false, fmt.Errorf("parse metadata: %w", err)
	}
	return m, true, nil
}

// findElement returns the text of the single element of our namespace at the
// top of content, "" when there is none.
func findElement(content string) (string, error) {
	dec := xml.NewDecoder(strings.NewReader(content))
	found := ""
	for {
		start := dec.InputOffset()
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return "", fmt.Errorf("parse metadata: %w", err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if err := dec.Skip(); err != nil {
			return "", fmt.Errorf("parse metadata: %w", err)
		}
		if element.Name.Space != MetadataNamespace {
			continue
		}
		if found != "" {
			return "", errors.New("parse metadata: two elements of ours")
		}
		found = content[start:dec.InputOffset()]
	}
}

func decodeMetadata(element []byte, space string) (Metadata, error) {
	if !utf8.Valid(element) {
		return Metadata{}, errors.New("not UTF-8")
	}
	var x metadataXML
	if err := xml.Unmarshal(element, &x); err != nil {
		return Metadata{}, err
	}
	switch {
	case x.XMLName.Space != space:
		return Metadata{}, fmt.Errorf("namespace %q, want %q", x.XMLName.Space, space)
	case x.Role == "":
		return Metadata{}, errors.New("no role")
	case len(x.HostKeys) > maxHostKeys:
		return Metadata{}, fmt.Errorf("over %d host keys", maxHostKeys)
	case len(x.Components) > maxComponents:
		return Metadata{}, fmt.Errorf("over %d components", maxComponents)
	case x.Intent != "" && !json.Valid([]byte(x.Intent)):
		return Metadata{}, errors.New("intent is not JSON")
	}
	m := Metadata{
		Role: x.Role, Owner: x.Owner, Manifest: x.Manifest, Image: x.Image,
		User: x.User, HostKeys: x.HostKeys, DataDir: x.DataDir, Authority: x.Authority,
	}
	if x.Intent != "" {
		m.Intent = []byte(x.Intent)
	}
	for _, c := range x.Components {
		m.Components = append(m.Components, ComponentRecord(c))
	}
	var err error
	if x.Address != "" {
		if m.Address, err = netip.ParseAddr(x.Address); err != nil {
			return Metadata{}, fmt.Errorf("address: %w", err)
		}
	}
	if m.CreatedAt, err = parseTime(x.CreatedAt); err != nil {
		return Metadata{}, fmt.Errorf("created: %w", err)
	}
	if m.ExpiresAt, err = parseTime(x.ExpiresAt); err != nil {
		return Metadata{}, fmt.Errorf("expires: %w", err)
	}
	return m, nil
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, s)
}

// ReplaceMetadata returns the domain definition with m as our metadata; what
// others keep there stays.
func ReplaceMetadata(definition string, m Metadata) (string, error) {
	element, err := m.namespaced()
	if err != nil {
		return "", err
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(definition); err != nil {
		return "", fmt.Errorf("parse domain: %w", err)
	}
	if d.Metadata == nil {
		d.Metadata = &libvirtxml.DomainMetadata{}
	}
	old, err := findElement(d.Metadata.XML)
	if err != nil {
		return "", err
	}
	if old == "" {
		d.Metadata.XML += element
	} else {
		d.Metadata.XML = strings.Replace(d.Metadata.XML, old, strings.TrimSpace(element), 1)
	}
	out, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("render domain: %w", err)
	}
	return out, nil
}
