// Command ovsa-engine is a model server: it runs models of a directory, and answers for
// them by the Open Inference Protocol and TensorFlow Serving's. See `ovsa-engine help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/engine"
)

func main() { os.Exit(engine.Program().Main()) }
