package sleep_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/sleep"
)

func TestFor(t *testing.T) {
	if err := sleep.For(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := sleep.For(ctx, time.Hour); !errors.Is(err, why) {
		t.Error(err)
	}
}
