package facedetect_test

import (
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"testing"

	"github.com/ovsactl/ovsactl/examples/inference/facedetect"
)

// reference is what testdata/reference.py has written: the model's answer for a
// picture, and the faces that the detector's authors' reading finds in it.
type reference struct {
	Width, Height int
	Threshold     float32
	Points        []struct {
		At     int
		Values []float32
	}
	Faces []struct {
		Box       [4]float32
		Score     float32
		Landmarks [10]float32
	}
}

func references(t *testing.T) map[string]reference {
	t.Helper()
	text, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]reference
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// answer is the model's. Where it was not sure of anything, it says nothing.
func (r reference) answer() facedetect.Answer {
	const points = 80 * 80
	a := facedetect.Answer{
		Heatmap: make([]float32, points), Scale: make([]float32, 2*points),
		Offset: make([]float32, 2*points), Landmarks: make([]float32, 10*points),
	}
	for _, p := range r.Points {
		values := p.Values
		for _, m := range [][]float32{a.Heatmap, a.Scale, a.Offset, a.Landmarks} {
			for c := range len(m) / points {
				m[c*points+p.At], values = values[0], values[1:]
			}
		}
	}
	return a
}

func near(a, b, by float32) bool { return math.Abs(float64(a-b)) <= float64(by) }

func TestFacesAreThoseOfTheReference(t *testing.T) {
	all := references(t)
	if len(all["one face"].Faces) != 1 || len(all["several faces"].Faces) != 4 || len(all["no face"].Faces) != 0 {
		t.Fatal("the reference is another one")
	}
	for name, r := range all {
		t.Run(name, func(t *testing.T) {
			fit, err := facedetect.FitInto(image.Pt(r.Width, r.Height), 320, 320)
			if err != nil {
				t.Fatal(err)
			}
			faces, err := r.answer().Faces(fit, r.Threshold)
			if err != nil || len(faces) != len(r.Faces) {
				t.Fatalf("got %v, %v, want %d faces", faces, err, len(r.Faces))
			}
			for i, f := range faces {
				want := r.Faces[i]
				got := [4]float32{f.Box.Min.X, f.Box.Min.Y, f.Box.Max.X, f.Box.Max.Y}
				for j, v := range got {
					if !near(v, want.Box[j], 0.01) {
						t.Errorf("face %d: box %v, want %v", i, got, want.Box)
						break
					}
				}
				if !near(f.Score, want.Score, 1e-5) {
					t.Errorf("face %d: score %v, want %v", i, f.Score, want.Score)
				}
				for j, l := range f.Landmarks {
					if !near(l.X, want.Landmarks[2*j], 0.01) || !near(l.Y, want.Landmarks[2*j+1], 0.01) {
						t.Errorf("face %d: landmark %d at %v, want %v", i, j, l, want.Landmarks[2*j:2*j+2])
					}
				}
			}
		})
	}
}

func TestThresholdLeavesTheSurest(t *testing.T) {
	r := references(t)["several faces"]
	fit, err := facedetect.FitInto(image.Pt(r.Width, r.Height), 320, 320)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		threshold float32
		want      int
	}{{0.3, 4}, {0.75, 3}, {0.8, 2}, {0.95, 0}} {
		if faces, err := r.answer().Faces(fit, tt.threshold); err != nil || len(faces) != tt.want {
			t.Errorf("%v: %d faces, %v, want %d", tt.threshold, len(faces), err, tt.want)
		}
	}
}

func TestAnAnswerOfAnotherSizeIsRefused(t *testing.T) {
	fit, err := facedetect.FitInto(image.Pt(10, 10), 320, 320)
	if err != nil {
		t.Fatal(err)
	}
	for name, cut := range map[string]func(*facedetect.Answer){
		"heatmap":   func(a *facedetect.Answer) { a.Heatmap = a.Heatmap[1:] },
		"scale":     func(a *facedetect.Answer) { a.Scale = append(a.Scale, 0) },
		"offset":    func(a *facedetect.Answer) { a.Offset = nil },
		"landmarks": func(a *facedetect.Answer) { a.Landmarks = a.Scale },
	} {
		a := reference{}.answer()
		if _, err := a.Faces(fit, 0.5); err != nil {
			t.Fatal(err)
		}
		cut(&a)
		if faces, err := a.Faces(fit, 0.5); err == nil {
			t.Errorf("%s: accepted: %v", name, faces)
		}
	}
}

func TestInputIsWhatOpenCVMakes(t *testing.T) {
	picture := load(t, "picture.png")
	for _, tt := range []struct {
		file string
		w, h int // of the model's input
	}{
		{"picture-32x18.png", 32, 64}, // smaller, with nothing below it
		{"picture-96x54.png", 96, 64}, // larger
	} {
		t.Run(tt.file, func(t *testing.T) {
			want := load(t, tt.file)
			fit, err := facedetect.FitInto(picture.Bounds().Size(), tt.w, tt.h)
			if err != nil {
				t.Fatal(err)
			}
			input := fit.Input(picture)
			if len(input) != 3*tt.w*tt.h {
				t.Fatalf("%d numbers", len(input))
			}
			for y := range tt.h {
				for x := range tt.w {
					var wanted [3]uint32
					if image.Pt(x, y).In(want.Bounds()) {
						wanted[0], wanted[1], wanted[2], _ = want.At(x, y).RGBA()
					}
					for c, v := range wanted {
						// OpenCV computes with 11 bits.
						if got := input[(c*tt.h+y)*tt.w+x]; !near(got, float32(v>>8), 1) {
							t.Fatalf("colour %d at %d, %d: %v, want %d", c, x, y, got, v>>8)
						}
					}
				}
			}
		})
	}
}

func TestFacesAreInThePicturesPixels(t *testing.T) {
	r := references(t)["one face"]
	a := r.answer()
	// The same answer, for a picture that is twice as large and half as high.
	fit, err := facedetect.FitInto(image.Pt(1024, 512), 320, 320)
	if err != nil {
		t.Fatal(err)
	}
	faces, err := a.Faces(fit, 0.5)
	if err != nil || len(faces) != 1 {
		t.Fatalf("%v, %v", faces, err)
	}
	if got, want := faces[0].Box.Min.X, 2*r.Faces[0].Box[0]; !near(got, want, 0.01) {
		t.Errorf("left at %v, want %v", got, want)
	}
	for _, f := range faces {
		if f.Box.Max.Y > 512 || f.Box.Max.X > 1024 {
			t.Errorf("%v is outside of the picture", f.Box)
		}
	}
}

func TestPicturesThatDoNotFit(t *testing.T) {
	for _, tt := range []struct {
		picture       image.Point
		width, height int
		ok            bool
	}{
		{image.Pt(1, 1), 320, 320, true},
		{image.Pt(10000, 1), 32, 32, true},
		{image.Pt(0, 10), 320, 320, false},
		{image.Pt(10, 10), 300, 320, false},
		{image.Pt(10, 10), 320, 0, false},
		{image.Pt(10, 10), -32, -32, false},
	} {
		fit, err := facedetect.FitInto(tt.picture, tt.width, tt.height)
		if (err == nil) != tt.ok {
			t.Errorf("%v into %d x %d: %v", tt.picture, tt.width, tt.height, err)
		}
		if tt.ok && len(fit.Input(image.NewGray(image.Rectangle{Max: tt.picture}))) != 3*tt.width*tt.height {
			t.Errorf("%v into %d x %d: another size", tt.picture, tt.width, tt.height)
		}
	}
}

func TestDraw(t *testing.T) {
	// One whose corner is elsewhere, as a part of a picture's is.
	picture := image.NewGray(image.Rect(100, 50, 300, 250))
	drawn := facedetect.Draw(picture, []facedetect.Face{{
		Box:       facedetect.Box{Min: facedetect.Point{X: 20, Y: 30}, Max: facedetect.Point{X: 120, Y: 130}},
		Landmarks: [5]facedetect.Point{{X: 50, Y: 60}, {X: 50, Y: 60}, {X: 50, Y: 60}, {X: 50, Y: 60}, {X: -9, Y: 900}},
	}})
	black := color.RGBA{A: 0xff}
	for _, tt := range []struct {
		x, y  int
		drawn bool
	}{
		{20, 30, true}, {119, 30, true}, {20, 129, true}, {119, 129, true}, {70, 31, true}, {50, 60, true},
		{19, 30, false}, {120, 129, false}, {70, 70, false}, {0, 0, false}, {199, 199, false},
	} {
		if is := drawn.RGBAAt(tt.x, tt.y) != black; is != tt.drawn {
			t.Errorf("at %d, %d: drawn %v, want %v", tt.x, tt.y, is, tt.drawn)
		}
	}
	if drawn.Rect != image.Rect(0, 0, 200, 200) {
		t.Errorf("the picture is %v", drawn.Rect)
	}
}

func load(t *testing.T, name string) image.Image {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return picture
}
