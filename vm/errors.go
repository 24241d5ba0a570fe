package vm

import "errors"

// ErrForeign says that something with the wanted name, address or id exists on
// the host and is not ours, or does not agree with what was asked. Nothing was
// touched.
var ErrForeign = errors.New("not managed by ovsactl")

// ErrMissing says that the domain, volume, pool or network does not exist.
var ErrMissing = errors.New("does not exist")
