package guestcli

// Runtime is ovsaruntime, which proves where it runs and serves models, with
// commands of other packages.
func Runtime(more ...Command) Program {
	return Program{
		Name:     "ovsaruntime",
		Summary:  "prove where this guest runs, and serve licensed models in it",
		Commands: append([]Command{quoteCommand()}, more...),
		Later:    []string{"serve"},
	}
}
