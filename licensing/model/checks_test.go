package model

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// Limits that nothing of a sensible size meets.
func TestLimits(t *testing.T) {
	if _, err := readLayout(bytes.NewReader(nil), 3); !errors.Is(err, ErrTruncated) {
		t.Errorf("three bytes: %v", err)
	}
	if _, err := (manifest{Description: strings.Repeat("x", maxManifest)}).marshal(); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "bytes, over") {
		t.Errorf("a long manifest: %v", err)
	}
	if _, err := parseManifest(make([]byte, maxManifest+1)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "is over") {
		t.Errorf("a long manifest: %v", err)
	}
	if err := (manifest{Format: "ovsa-model/v3"}).check(); err == nil || !strings.Contains(err.Error(), `format "ovsa-model/v3"`) {
		t.Errorf("a version that is not there: %v", err)
	}
	full := sealing{Sealer: testSealer(), keys: make(root, 32), files: sources([]file{{"f", []byte{1}}}), current: -1, total: MaxData}
	if _, err := full.fill(&slot{}); !errors.Is(err, ErrInput) {
		t.Errorf("a byte too many: %v", err)
	}
	for n, ok := range map[int]bool{MaxSigned: true, MaxSigned + 1: false} {
		s := testSealer()
		s.Sign = func([]byte) ([]byte, error) { return make([]byte, n), nil }
		if _, err := s.Seal(t.Context(), io.Discard, sources([]file{{"f", nil}})); (err == nil) != ok {
			t.Errorf("a signature of %d bytes: %v", n, err)
		}
	}
}

func TestFilesThatAModelHasNot(t *testing.T) {
	m := unlock(t, testOpener(), seal(t, testSealer(), file{"f", content(10)}))
	if err := m.Decrypt(t.Context(), io.Discard, "g"); err == nil || !strings.Contains(err.Error(), `the model has no file "g"`) {
		t.Errorf("%v", err)
	}
	if _, err := m.Reader(""); err == nil {
		t.Error("a file without a name")
	}
}
