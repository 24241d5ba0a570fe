package model_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
)

func Example() {
	ctx, key := context.Background(), licensing.NewKey()
	defer key.Wipe()

	// The vendor seals. In place of these two, use licensing.SignModel and
	// licensing.VerifyModel.
	sign := func(manifest []byte) ([]byte, error) { return manifest, nil }
	verify := func(signed []byte) ([]byte, error) { return signed, nil }

	var dat bytes.Buffer
	sealer := model.Sealer{
		Key:  key,
		Info: model.Info{Name: "greeter", Version: "1", GUID: "6f1f4c0e-3c2b-4b7e-8f59-3f0f6d0f9f11"},
		Sign: sign,
	}
	if _, err := sealer.Seal(ctx, &dat, []model.Source{{Name: "hello.txt", Reader: strings.NewReader("Hello.\n")}}); err != nil {
		log.Fatal(err)
	}

	// A guest that was given the key opens.
	opener := model.Opener{Verify: verify}
	container, err := opener.Open(ctx, bytes.NewReader(dat.Bytes()), int64(dat.Len()))
	if err != nil {
		log.Fatal(err)
	}
	m, err := container.Unlock(key)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, f := range m.Files() {
		fmt.Println(f.Name, f.Size)
		if err := m.Decrypt(ctx, os.Stdout, f.Name); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// hello.txt 7
	// Hello.
}
