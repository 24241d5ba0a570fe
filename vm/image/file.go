package image

import (
	"context"
	"errors"
)

func (c *Cache) lookupFile(src Source) (Image, bool, error) {
	return Image{}, false, errors.New("not yet")
}
func (c *Cache) ensureFile(ctx context.Context, src Source, progress Progress) (Image, error) {
	return Image{}, errors.New("not yet")
}
