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

// LicenseServer is license_server, which releases keys to proven guests.
func LicenseServer() Program {
	return Program{
		Name:    "license_server",
		Summary: "release licensed models' keys to guests that prove where they run",
		Later:   []string{""},
	}
}
