// Face_detection asks a model server for the faces in pictures, over TLS with a
// certificate on both sides, and draws frames around them.
//
//	go run ./examples/inference/go -server https://192.168.122.30:2225 photo.jpg
//
// It speaks the Open Inference Protocol over REST and needs nothing but Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/examples/inference/facedetect"
)

// maxPixels is how large a picture may be.
const maxPixels = 100 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type options struct {
	server, serverCert, clientCert, clientKey string
	model, version, output                    string
	width, height                             int
	threshold                                 float64
	timeout                                   time.Duration
	json                                      bool
	pictures                                  []string
}

func parse(args []string, stderr io.Writer) (options, error) {
	const certs = "/var/OVSA/Modelserver/"
	var o options
	flags := flag.NewFlagSet("face_detection", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.server, "server", "https://localhost:2225", "the server's `URL`")
	flags.StringVar(&o.serverCert, "server-cert", certs+"server.pem", "the server's certificate, or its authority's: a `FILE`")
	flags.StringVar(&o.clientCert, "client-cert", certs+"client.pem", "this client's certificate: a `FILE`")
	flags.StringVar(&o.clientKey, "client-key", certs+"client.key", "its key: a `FILE`")
	flags.StringVar(&o.model, "model", "controlled-access-model", "the model's `NAME`")
	flags.StringVar(&o.version, "model-version", "", "a `NUMBER`; by default the server's choice")
	flags.IntVar(&o.width, "width", 640, "of the model's input, where the model takes any: `PIXELS`")
	flags.IntVar(&o.height, "height", 640, "of the model's input, where the model takes any: `PIXELS`")
	flags.Float64Var(&o.threshold, "threshold", 0.5, "how sure the model must be, from 0 to 1: a `SHARE`")
	flags.StringVar(&o.output, "o", "results", "where the pictures go that are drawn: a `DIRECTORY`")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for an answer: a `TIME`")
	flags.BoolVar(&o.json, "json", false, "say what was found as JSON")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: face_detection [FLAG...] PICTURE...\n\nfinds faces in PNG and JPEG pictures")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.pictures = flags.Args()
	if len(o.pictures) == 0 {
		return o, errors.New("no picture; see -help")
	}
	return o, nil
}

// found is what is said about a picture.
type found struct {
	Picture string      `json:"picture"`
	Drawn   string      `json:"drawn"`
	Faces   []faceFound `json:"faces"`
}

type faceFound struct {
	Box       [4]float32    `json:"box"` // left, top, right, bottom
	Score     float32       `json:"score"`
	Landmarks [5][2]float32 `json:"landmarks"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	s, err := dial(o.server, o.serverCert, o.clientCert, o.clientKey, o.model, o.version, o.timeout)
	if err != nil {
		return err
	}
	input, err := inputOf(ctx, s, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.output, 0o755); err != nil {
		return err
	}
	all := []found{}
	for _, name := range o.pictures {
		one, err := detect(ctx, s, input, name, o)
		if err != nil {
			return fmt.Errorf("picture %q: %w", name, err)
		}
		all = append(all, one)
		if !o.json {
			say(stdout, one)
		}
	}
	if !o.json {
		return nil
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}

func say(w io.Writer, one found) {
	faces := "faces"
	if len(one.Faces) == 1 {
		faces = "face"
	}
	fmt.Fprintf(w, "%s: %d %s; drawn in %s\n", one.Picture, len(one.Faces), faces, one.Drawn)
	for _, f := range one.Faces {
		fmt.Fprintf(w, "  %.0f %% sure: %.0f, %.0f to %.0f, %.0f\n", 100*f.Score, f.Box[0], f.Box[1], f.Box[2], f.Box[3])
	}
}

// inputOf is what the model takes: one picture of three colours.
func inputOf(ctx context.Context, s *server, o options) (tensor, error) {
	m, err := s.metadata(ctx)
	if err != nil {
		return tensor{}, err
	}
	if len(m.Inputs) != 1 || len(m.Inputs[0].Shape) != 4 || m.Inputs[0].Type != "FP32" || m.Inputs[0].Shape[1] != 3 {
		return tensor{}, fmt.Errorf("model %q is none that this client knows: its inputs are %v", o.model, m.Inputs)
	}
	in := m.Inputs[0]
	up := func(n int) int64 {
		return int64((n + facedetect.Multiple - 1) / facedetect.Multiple * facedetect.Multiple)
	}
	for i, fallback := range []int64{1, 3, up(o.height), up(o.width)} {
		if i == 0 || in.Shape[i] < 1 {
			in.Shape[i] = fallback
		}
	}
	if in.Shape[2]*in.Shape[3] > maxPixels {
		return tensor{}, fmt.Errorf("an input of %v is too large", in.Shape)
	}
	return in, nil
}

// detect finds the faces of one picture, and draws them.
func detect(ctx context.Context, s *server, input tensor, name string, o options) (found, error) {
	picture, err := read(name)
	if err != nil {
		return found{}, err
	}
	fit, err := facedetect.FitInto(picture.Bounds().Size(), int(input.Shape[3]), int(input.Shape[2]))
	if err != nil {
		return found{}, err
	}
	maps, err := s.infer(ctx, input, fit.Input(picture), []string{"heatmap", "scale", "offset", "landmarks"})
	if err != nil {
		return found{}, err
	}
	answer := facedetect.Answer{Heatmap: maps["heatmap"], Scale: maps["scale"], Offset: maps["offset"], Landmarks: maps["landmarks"]}
	faces, err := answer.Faces(fit, float32(o.threshold))
	if err != nil {
		return found{}, err
	}
	one := found{Picture: name, Drawn: filepath.Join(o.output, filepath.Base(name)), Faces: []faceFound{}}
	for _, f := range faces {
		say := faceFound{Box: [4]float32{f.Box.Min.X, f.Box.Min.Y, f.Box.Max.X, f.Box.Max.Y}, Score: f.Score}
		for i, l := range f.Landmarks {
			say.Landmarks[i] = [2]float32{l.X, l.Y}
		}
		one.Faces = append(one.Faces, say)
	}
	return one, write(name, one.Drawn, facedetect.Draw(picture, faces))
}

// read reads a picture that is not too large.
func read(name string) (image.Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, err
	}
	if config.Width > maxPixels || config.Height > maxPixels || config.Width*config.Height > maxPixels {
		return nil, fmt.Errorf("%d x %d pixels are too many", config.Width, config.Height)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	picture, _, err := image.Decode(f)
	return picture, err
}

// write writes a picture, and never over the one that it was made from.
func write(original, name string, picture image.Image) (err error) {
	if a, errA := os.Stat(original); errA == nil {
		if b, errB := os.Stat(name); errB == nil && os.SameFile(a, b) {
			return errors.New("the picture would be written over; say another directory with -o")
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if strings.EqualFold(filepath.Ext(name), ".png") {
		return png.Encode(f, picture)
	}
	return jpeg.Encode(f, picture, &jpeg.Options{Quality: 92})
}
