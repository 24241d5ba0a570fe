package vm

import "testing"

// A plan reads every domain of the host: a thousand of them in a second or so.
func BenchmarkParseDomain(b *testing.B) {
	text, err := DomainXML(testSpec())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParseDomain(text); err != nil {
			b.Fatal(err)
		}
	}
}
