package facedetect

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
)

// Fit says how a picture lies in the model's input: from the left upper corner, as
// large as it can be, with nothing at its right or below it.
type Fit struct {
	Width, Height int // of the input
	picture       image.Point
	scale         float64 // pixels of the input for one of the picture
}

// FitInto is how a picture is laid into an input of this size.
func FitInto(picture image.Point, width, height int) (Fit, error) {
	if picture.X < 1 || picture.Y < 1 {
		return Fit{}, fmt.Errorf("the picture is empty: %d x %d", picture.X, picture.Y)
	}
	if width < Multiple || height < Multiple || width%Multiple != 0 || height%Multiple != 0 {
		return Fit{}, fmt.Errorf("the model takes pictures of %d x %d, which are no multiples of %d", width, height, Multiple)
	}
	scale := min(float64(width)/float64(picture.X), float64(height)/float64(picture.Y))
	return Fit{Width: width, Height: height, picture: picture, scale: scale}, nil
}

// size is the picture's in the input.
func (f Fit) size() (width, height int) {
	scaled := func(n int) int { return max(1, int(math.Round(float64(n)*f.scale))) }
	return min(f.Width, scaled(f.picture.X)), min(f.Height, scaled(f.picture.Y))
}

// clamp is the nearest point in the picture, in pixels of the input.
func (f Fit) clamp(p Point) Point {
	w, h := f.size()
	return Point{min(max(p.X, 0), float32(w)), min(max(p.Y, 0), float32(h))}
}

// original is where in the picture a point of the input is.
func (f Fit) original(p Point) Point {
	return Point{float32(float64(p.X) / f.scale), float32(float64(p.Y) / f.scale)}
}

// Input is the picture as the model takes it: its red, then its green, then its blue,
// each row by row, from 0 to 255.
func (f Fit) Input(picture image.Image) []float32 {
	src := image.NewRGBA(image.Rectangle{Max: f.picture})
	draw.Draw(src, src.Rect, picture, picture.Bounds().Min, draw.Src)
	w, h := f.size()
	xs, ys := taps(f.picture.X, w), taps(f.picture.Y, h)
	plane := f.Width * f.Height
	input := make([]float32, 3*plane)
	for y, ty := range ys {
		upper, lower := src.Pix[ty.first*src.Stride:], src.Pix[ty.second*src.Stride:]
		for x, tx := range xs {
			for c := range 3 {
				above := mix(upper[4*tx.first+c], upper[4*tx.second+c], tx.share)
				below := mix(lower[4*tx.first+c], lower[4*tx.second+c], tx.share)
				value := above + (below-above)*ty.share
				// Pictures have whole numbers, and so had those the model learned from.
				input[c*plane+y*f.Width+x] = float32(math.Round(value))
			}
		}
	}
	return input
}

// tap is which two pixels one of a scaled row is made of (bilinear).
type tap struct {
	first, second int
	share         float64 // of the second
}

func taps(from, to int) []tap {
	all := make([]tap, to)
	for i := range all {
		at := (float64(i)+0.5)*float64(from)/float64(to) - 0.5
		at = min(max(at, 0), float64(from-1))
		first := int(at)
		all[i] = tap{first, min(first+1, from-1), at - float64(first)}
	}
	return all
}

func mix(a, b uint8, share float64) float64 { return float64(a) + (float64(b)-float64(a))*share }

// Draw is the picture with a frame around each face and a dot at each landmark.
func Draw(picture image.Image, faces []Face) *image.RGBA {
	bounds := picture.Bounds()
	drawn := image.NewRGBA(image.Rectangle{Max: bounds.Size()})
	draw.Draw(drawn, drawn.Rect, picture, bounds.Min, draw.Src)
	frame, dot := color.RGBA{0x39, 0xff, 0x14, 0xff}, color.RGBA{0xff, 0x30, 0x30, 0xff}
	line := max(2, min(bounds.Dx(), bounds.Dy())/200)
	fill := func(r image.Rectangle, c color.RGBA) {
		draw.Draw(drawn, r, image.NewUniform(c), image.Point{}, draw.Src)
	}
	for _, f := range faces {
		outer := image.Rectangle{f.Box.Min.pixel(), f.Box.Max.pixel()}
		inner := outer.Inset(line)
		fill(image.Rect(outer.Min.X, outer.Min.Y, outer.Max.X, inner.Min.Y), frame)
		fill(image.Rect(outer.Min.X, inner.Max.Y, outer.Max.X, outer.Max.Y), frame)
		fill(image.Rect(outer.Min.X, outer.Min.Y, inner.Min.X, outer.Max.Y), frame)
		fill(image.Rect(inner.Max.X, outer.Min.Y, outer.Max.X, outer.Max.Y), frame)
		for _, l := range f.Landmarks {
			at := l.pixel()
			fill(image.Rect(at.X-line, at.Y-line, at.X+line, at.Y+line), dot)
		}
	}
	return drawn
}

func (p Point) pixel() image.Point {
	return image.Pt(int(math.Round(float64(p.X))), int(math.Round(float64(p.Y))))
}
