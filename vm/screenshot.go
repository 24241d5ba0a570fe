package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	"libvirt.org/go/libvirt"
)

const (
	maxScreenSide = 8192
	maxScreenshot = 3*maxScreenSide*maxScreenSide + 64
)

// Screenshot returns what the guest's display shows, as PNG.
func (h *Host) Screenshot(ctx context.Context, name string) ([]byte, error) {
	return call(ctx, h, fmt.Sprintf("take screenshot of domain %q", name), func(c *libvirt.Connect) ([]byte, error) {
		d, s, err := require(c, name)
		if err != nil {
			return nil, err
		}
		defer d.Free()
		if s.VNC == nil {
			return nil, errors.New("the guest has no display: add a vnc block to the role")
		}
		stream, err := c.NewStream(libvirt.STREAM_NONBLOCK)
		if err != nil {
			return nil, err
		}
		defer stream.Free()
		kind, err := d.Screenshot(stream, 0, 0)
		if err != nil {
			return nil, err
		}
		data, err := drain(ctx, stream, maxScreenshot)
		if err != nil {
			return nil, errors.Join(err, stream.Abort())
		}
		if err := stream.Finish(); err != nil {
			return nil, err
		}
		if kind == "image/png" {
			return data, nil
		}
		return pixmapToPNG(data)
	})
}

// pixmapToPNG converts a binary portable pixmap (P6), which is what QEMU takes
// screenshots in.
func pixmapToPNG(data []byte) ([]byte, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	var magic string
	var width, height, depth int
	if _, err := fmt.Fscanf(r, "%2s\n%d %d\n%d\n", &magic, &width, &height, &depth); err != nil {
		return nil, fmt.Errorf("parse pixmap: %w", err)
	}
	if magic != "P6" || depth != 255 || width < 1 || height < 1 || width > maxScreenSide || height > maxScreenSide {
		return nil, fmt.Errorf("parse pixmap: %s of %dx%d, depth %d", magic, width, height, depth)
	}
	pixels, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("parse pixmap: %w", err)
	}
	if len(pixels) != 3*width*height {
		return nil, fmt.Errorf("parse pixmap: %d bytes for %dx%d", len(pixels), width, height)
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(img.Pix[4*i:4*i+3], pixels[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("encode screenshot: %w", err)
	}
	return out.Bytes(), nil
}
