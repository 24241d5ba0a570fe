package licenseserver

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Machine are the Ports of the machine that this runs on.
func Machine() Ports {
	return Ports{Now: time.Now, Hangups: hangups, NewService: Guests}
}

func hangups() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
