package ovsaruntime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/sdnotify"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// announcer tells systemd what becomes of the models.
type announcer struct {
	host    *hosting.Host
	service sdnotify.Service
	log     *slog.Logger
}

// run tells of each change until ctx ends: the service runs, whether models are ready
// or not, as some may be had only later. The watchdog hears of it as long as the
// host can say what becomes of its models.
func (a announcer) run(ctx context.Context) {
	a.tell(sdnotify.Ready)
	var alive <-chan time.Time
	if every := a.service.Watchdog() / 2; every > 0 {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		alive = ticks.C
		a.tell(sdnotify.Alive)
	}
	last := ""
	for {
		changed := a.host.Changed()
		if now := a.summary(); now != last {
			a.tell(sdnotify.Status(now))
			last = now
		}
		select {
		case <-ctx.Done():
			a.tell(sdnotify.Stopping, sdnotify.Status("stopping"))
			return
		case <-changed:
		case <-alive:
			a.host.Status()
			a.tell(sdnotify.Alive)
		}
	}
}

// reloads has it looked at once whenever somebody asks for it, until ctx ends.
func (a announcer) reloads(ctx context.Context, asked <-chan os.Signal, more func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			a.tell(sdnotify.Reloading())
			more()
			a.host.Look(ctx)
			a.tell(sdnotify.Ready)
		}
	}
}

func (a announcer) tell(states ...string) {
	if err := a.service.Tell(states...); err != nil {
		a.log.Warn("systemd was not told", "why", err.Error())
	}
}

// summary is a line about all models.
func (a announcer) summary() string {
	models, engine := a.host.Status()
	ready, why := 0, []string{}
	for _, m := range models {
		switch {
		case m.State == hosting.Ready:
			ready++
		case m.Why != "":
			why = append(why, fmt.Sprintf("%s: %s", nameOf(m.Name, m.Version), m.Why))
		}
	}
	if engine.Why != "" {
		why = append([]string{"the model server: " + engine.Why}, why...)
	}
	if c := a.host.Config(); c.Why != "" {
		why = append([]string{"the configuration is refused: " + c.Why}, why...)
	}
	text := fmt.Sprintf("%d of %d models ready", ready, len(models))
	if len(why) > 0 {
		text += "; " + why[0]
	}
	if more := len(why) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return strings.ToValidUTF8(text[:min(len(text), 512)], "")
}
