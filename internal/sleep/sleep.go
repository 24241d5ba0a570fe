// Package sleep waits for a time that can be cut short.
package sleep

import (
	"context"
	"time"
)

// For returns after d, or when ctx ends before: then with its cause.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
