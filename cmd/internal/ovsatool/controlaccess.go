package ovsatool

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
)

func controlAccessVerb() verb {
	return verb{
		name: "controlAccess", summary: "encrypt a model, and make the master licence that opens it",
		flags: trusting(
			flag{name: "i", args: "FILE...", help: "the model's files", required: true, min: 1, max: greedy},
			flag{name: "n", args: "NAME", help: "the model's name", required: true},
			flag{name: "d", args: "DESCRIPTION", help: "what it is", required: true},
			flag{name: "v", args: "VERSION", help: "its version", required: true},
			flag{name: "p", args: "OUT.dat", help: "where to write the encrypted model", required: true},
			flag{name: "m", args: "OUT.masterlic", help: "where to write the master licence", required: true},
			flagStore,
			flag{name: "g", args: "GUID", help: "the licence's GUID, as uuidgen prints one", required: true},
			flag{name: "tags-only", help: "sign no digests of the content: more than twice as fast, and whoever has the model's key can make other content under it"},
			flagForce,
		),
		example: `controlAccess -i model.xml model.bin -n "face detection" -d "face detection retail" -v 0004 -p model.dat -m model.masterlic -k isv_keystore -g $(uuidgen)`,
		run:     controlAccess,
	}
}

func controlAccess(ctx context.Context, s session, c call) error {
	guid, err := licensing.ParseGUID(c.get("g"))
	if err != nil {
		return err
	}
	out := &outputs{force: c.has("force")}
	if err := out.check(c.get("p"), c.get("m")); err != nil {
		return err
	}
	sources, total, closeAll, err := openSources(c.all("i"), c.get("p"), c.get("m"))
	defer closeAll()
	if err != nil {
		return err
	}
	p, err := s.party(ctx, c)
	if err != nil {
		return err
	}
	defer p.Close()
	key := licensing.NewKey()
	defer key.Wipe()
	modelGUID := licensing.NewGUID()
	progress, end := s.progress(c.get("p"), total)
	defer end()
	sealer := model.Sealer{
		Key: key, TagsOnly: c.has("tags-only"), Progress: progress,
		Info: model.Info{Name: c.get("n"), Description: c.get("d"), Version: c.get("v"), GUID: string(modelGUID)},
		Sign: func(manifest []byte) ([]byte, error) {
			return licensing.SignModel(manifest, p.Key(licensing.Primary), p.chain)
		},
	}
	var sealed model.Sealed
	out.files = append(out.files,
		output{c.get("p"), func(w io.Writer) (err error) {
			sealed, err = sealer.Seal(ctx, w, sources)
			return err
		}},
		output{c.get("m"), func(w io.Writer) error {
			file, err := masterLicence(s, p, guid, modelGUID, sealed.Digest[:], key)
			if err != nil {
				return err
			}
			_, err = w.Write(file)
			return err
		}})
	err = out.write()
	end()
	if err != nil {
		return err
	}
	s.say("%s: files: %d, %s, SHA-256 %s", c.get("p"), len(sealed.Files), inBytes(sealed.Size), sealed.Digest)
	return nil
}

func masterLicence(s session, p party, guid, modelGUID licensing.GUID, digest []byte, key licensing.Key) ([]byte, error) {
	primary := p.Key(licensing.Primary)
	master, err := licensing.NewMasterLicence(s.Now(), guid, modelGUID, digest, key, &primary.PublicKey)
	if err != nil {
		return nil, err
	}
	return licensing.Sign(master, primary, p.chain)
}

// openSources opens a model's files, none of which may be an output, and tells how
// large they are. closeAll closes them, and is there after an error, too.
func openSources(paths []string, outputs ...string) (sources []model.Source, total int64, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, closeAll, err
		}
		files = append(files, f)
		size, err := checkSource(f, outputs)
		if err != nil {
			return nil, 0, closeAll, err
		}
		total += size
		sources = append(sources, model.Source{Name: filepath.Base(path), Reader: f})
	}
	return sources, total, closeAll, nil
}

func checkSource(f *os.File, outputs []string) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("read %q: not a file", f.Name())
	}
	for _, out := range outputs {
		if other, err := os.Stat(out); err == nil && os.SameFile(info, other) {
			return 0, fmt.Errorf("%q is an input and an output", f.Name())
		}
	}
	return info.Size(), nil
}
