// Package examples holds manifests that work as they are, and clients of what is served.
// They are part of the documentation and of the program: `ovsactl init` writes the first
// manifest, and guests that serve models get a client.
package examples

import (
	"embed"
	"fmt"
)

//go:embed quickstart.hcl
var quickstart string

// Quickstart is the manifest that `ovsactl init` writes.
func Quickstart() []byte { return []byte(quickstart) }

//go:embed inference/python/face_detection.py inference/python/requirements.txt
var client embed.FS

// Client is a file of the example client in Python: face_detection.py, and the
// requirements.txt of what it runs with.
func Client(name string) ([]byte, error) {
	text, err := client.ReadFile("inference/python/" + name)
	if err != nil {
		return nil, fmt.Errorf("example client: %w", err)
	}
	return text, nil
}
