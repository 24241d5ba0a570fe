package ovsatool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/outfiles"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
)

func controlAccessCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "controlAccess", Summary: "encrypt a model, and make the master licence that opens it",
		Flags: keystore.Trusting(
			guestcli.Flag{Name: "i", Arg: "FILE...", Kind: guestcli.File, Help: "the model's files", Required: true, Min: 1, Max: guestcli.Many},
			guestcli.Flag{Name: "n", Arg: "NAME", Help: "the model's name", Required: true},
			guestcli.Flag{Name: "d", Arg: "DESCRIPTION", Help: "what it is", Required: true},
			guestcli.Flag{Name: "v", Arg: "VERSION", Help: "its version", Required: true},
			guestcli.Flag{Name: "p", Arg: "OUT.dat", Kind: guestcli.File, Help: "where to write the encrypted model", Required: true},
			guestcli.Flag{Name: "m", Arg: "OUT.masterlic", Kind: guestcli.File, Help: "where to write the master licence", Required: true},
			keystore.Flag(),
			guestcli.Flag{Name: "g", Arg: "GUID", Help: "the licence's GUID, as uuidgen prints one", Required: true},
			guestcli.Flag{Name: "tags-only", Help: "sign no digests of the content: more than twice as fast, and whoever has the model's key can make other content under it"},
			outfiles.Flag(), guestcli.JSON(),
		),
		Example: `controlAccess -i model.xml model.bin -n "face detection" -d "face detection retail" -v 0004 -p model.dat -m model.masterlic -k isv_keystore -g $(uuidgen)`,
		Run:     run(controlAccess),
	}
}

func controlAccess(ctx context.Context, s session) error {
	guid, err := licensing.ParseGUID(s.Text("g"))
	if err != nil {
		return err
	}
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("p"), s.Text("m")); err != nil {
		return err
	}
	sources, total, closeAll, err := openSources(s.All("i"), s.Text("p"), s.Text("m"))
	defer closeAll()
	if err != nil {
		return err
	}
	if total == 0 {
		return errors.New("the model is empty: its files have no content")
	}
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	key := licensing.NewKey()
	defer key.Wipe()
	modelGUID := licensing.NewGUID()
	progress, end := s.progress(s.Text("p"), total)
	defer end()
	sealer := model.Sealer{
		Key: key, TagsOnly: s.Has("tags-only"), Progress: progress,
		Info: model.Info{Name: s.Text("n"), Description: s.Text("d"), Version: s.Text("v"), GUID: string(modelGUID)},
		Sign: func(manifest []byte) ([]byte, error) {
			return licensing.SignModel(manifest, p.Key(licensing.Primary), p.Chain)
		},
	}
	var sealed model.Sealed
	out.AddFunc(s.Text("p"), func(w io.Writer) (err error) {
		sealed, err = sealer.Seal(ctx, w, sources)
		return err
	})
	out.AddFunc(s.Text("m"), func(w io.Writer) error {
		file, err := masterLicence(s, p, guid, modelGUID, sealed.Digest[:], key)
		if err != nil {
			return err
		}
		_, err = w.Write(file)
		return err
	})
	err = out.Write()
	end()
	if err != nil {
		return err
	}
	return s.Report(rows{{"file", s.Text("p")}, {"master_licence", s.Text("m")}, {"product", string(guid)}, {"model", string(modelGUID)}, {"files", len(sealed.Files)}, {"bytes", sealed.Size}, {"sha256", sealed.Digest.String()}},
		"%s: files: %d, %s, SHA-256 %s; its master licence: %s", s.Text("p"), len(sealed.Files), inBytes(sealed.Size), sealed.Digest, s.Text("m"))
}

func masterLicence(s session, p keystore.Party, guid, modelGUID licensing.GUID, digest []byte, key licensing.Key) ([]byte, error) {
	primary := p.Key(licensing.Primary)
	master, err := licensing.NewMasterLicence(s.Now(), guid, modelGUID, digest, key, &primary.PublicKey)
	if err != nil {
		return nil, err
	}
	return licensing.Sign(master, primary, p.Chain)
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
