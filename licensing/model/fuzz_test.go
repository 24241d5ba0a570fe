package model

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// addVectors makes the containers of the test vectors seeds.
func addVectors(f *testing.F) {
	paths, err := filepath.Glob("testdata/vectors*/*.dat")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// sameSalt makes the seeds the same in every process of a fuzzer.
func sameSalt(salt []byte) { copy(salt, "salt") }

// FuzzOpen: nothing but the very container opens.
func FuzzOpen(f *testing.F) {
	files := []file{{"a", content(40)}, {"empty", nil}, {"b", content(30)}}
	s := testSealer()
	s.salt = sameSalt
	good := seal(f, s, files...)
	f.Add(good)
	addVectors(f)
	f.Fuzz(func(t *testing.T, dat []byte) {
		if _, err := attempt(t, dat); err == nil && !bytes.Equal(dat, good) {
			t.Errorf("%q opened", dat)
		} else if err != nil && !refused(err) {
			t.Errorf("%q: %v", dat, err)
		}
	})
}

// FuzzOpenUnsigned lets every signature pass, to reach what is behind: a file
// that decrypts is one that was sealed, at its place, whatever its name is.
func FuzzOpenUnsigned(f *testing.F) {
	files := []file{{"a", content(40)}, {"empty", nil}, {"b", content(30)}}
	s := testSealer()
	s.salt = sameSalt
	s.Sign = func(payload []byte) ([]byte, error) { return payload, nil }
	f.Add(seal(f, s, files...))
	s.TagsOnly = true
	f.Add(seal(f, s, files...))
	o := Opener{Verify: func(signed []byte) ([]byte, error) { return signed, nil }, Workers: 1}
	f.Fuzz(func(t *testing.T, dat []byte) {
		c, err := o.Open(t.Context(), bytes.NewReader(dat), int64(len(dat)))
		if err != nil {
			if !refused(err) {
				t.Errorf("%q: %v", dat, err)
			}
			return
		}
		m, err := c.Unlock(testKey())
		if err != nil {
			return
		}
		for i, got := range m.Files() {
			var b bytes.Buffer
			err := m.Decrypt(t.Context(), &b, got.Name)
			if err == nil && (i >= len(files) || !bytes.Equal(b.Bytes(), files[i].data)) || err != nil && (!refused(err) || b.Len() > 0) {
				t.Errorf("file %d: %q, %v", i, b.Bytes(), err)
			}
		}
	})
}

// FuzzManifest: there is one encoding of each manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(payloadOf(f, seal(f, testSealer(), file{"größe", content(40)}, file{`"<&>`, nil}))))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if again, err := m.marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}
