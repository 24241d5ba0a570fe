// Package facedetect is what a client of the face detector CenterFace does before and
// after it asks a server: it lays a picture into the model's input, and finds the faces
// in the model's answer.
//
// The model looks at the picture at each fourth pixel in both directions, and says for
// each such point how sure it is that a face's middle is there (heatmap), how large that
// face is (scale), how far from the point its middle is (offset), and where in its box
// the eyes, the nose and the mouth's corners are (landmarks):
// https://arxiv.org/abs/1911.03599
package facedetect

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

const (
	// Multiple is what the sides of the model's input are multiples of.
	Multiple = 32
	// stride is how many pixels of the input are one point of the answer.
	stride = 4
	// overlap is how much of two boxes may be the same where both are faces.
	overlap = 0.3
)

// Point is a place in a picture, in pixels from its left upper corner.
type Point struct{ X, Y float32 }

// Box is a rectangle in a picture.
type Box struct{ Min, Max Point }

// Face is one that the model has found.
type Face struct {
	Box       Box
	Score     float32  // how sure the model is, up to 1
	Landmarks [5]Point // eyes, nose, and the mouth's corners
}

// Answer is the model's about one picture: what its outputs of these names have.
type Answer struct {
	Heatmap, Scale, Offset, Landmarks []float32
}

// Faces are those of which the model is surer than threshold, the surest first.
// They are where they are in the picture that was laid into the input as fit says.
func (a Answer) Faces(fit Fit, threshold float32) ([]Face, error) {
	w, h := fit.Width/stride, fit.Height/stride
	points := w * h
	for _, m := range []struct {
		name     string
		got      int
		perPoint int
	}{
		{"heatmap", len(a.Heatmap), 1}, {"scale", len(a.Scale), 2}, {"offset", len(a.Offset), 2}, {"landmarks", len(a.Landmarks), 10},
	} {
		if m.got != m.perPoint*points {
			return nil, fmt.Errorf("output %q has %d numbers, want %d: %d for each of %d x %d points", m.name, m.got, m.perPoint*points, m.perPoint, w, h)
		}
	}
	var all []Face
	for at, score := range a.Heatmap {
		if score > threshold {
			all = append(all, a.face(fit, at, w, points))
		}
	}
	return distinct(all), nil
}

// face is the one whose middle is at a point.
func (a Answer) face(fit Fit, at, w, points int) Face {
	exp := func(x float32) float32 { return stride * float32(math.Exp(float64(x))) }
	height, width := exp(a.Scale[at]), exp(a.Scale[points+at])
	middle := Point{
		X: (float32(at%w) + a.Offset[points+at] + 0.5) * stride,
		Y: (float32(at/w) + a.Offset[at] + 0.5) * stride,
	}
	corner := fit.clamp(Point{middle.X - width/2, middle.Y - height/2})
	f := Face{Score: a.Heatmap[at], Box: Box{
		Min: fit.original(corner),
		Max: fit.original(fit.clamp(Point{corner.X + width, corner.Y + height})),
	}}
	for i := range f.Landmarks {
		f.Landmarks[i] = fit.original(Point{
			X: corner.X + a.Landmarks[(2*i+1)*points+at]*width,
			Y: corner.Y + a.Landmarks[2*i*points+at]*height,
		})
	}
	return f
}

// distinct leaves of faces that are at the same place the one that the model is surest
// of (non-maximum suppression).
func distinct(all []Face) []Face {
	slices.SortStableFunc(all, func(a, b Face) int { return cmp.Compare(b.Score, a.Score) })
	var kept []Face
	for _, f := range all {
		if !slices.ContainsFunc(kept, func(k Face) bool { return k.Box.shared(f.Box) >= overlap }) {
			kept = append(kept, f)
		}
	}
	return kept
}

func (b Box) area() float32 { return max(0, b.Max.X-b.Min.X) * max(0, b.Max.Y-b.Min.Y) }

// shared is how much of what two boxes cover together both cover: 0 to 1.
func (b Box) shared(o Box) float32 {
	both := Box{
		Min: Point{max(b.Min.X, o.Min.X), max(b.Min.Y, o.Min.Y)},
		Max: Point{min(b.Max.X, o.Max.X), min(b.Max.Y, o.Max.Y)},
	}.area()
	if both == 0 {
		return 0
	}
	return both / (b.area() + o.area() - both)
}
