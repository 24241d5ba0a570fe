package guestcli

// Runtime is ovsaruntime, which proves where it runs and serves models.
func Runtime() Program {
	return Program{
		Name:     "ovsaruntime",
		Summary:  "prove where this guest runs, and serve licensed models in it",
		Commands: []Command{quoteCommand()},
		Later:    []string{"gen-tcb-signature", "serve"},
	}
}
