package templates

import _ "embed"

// ReceiveScript is what apply has a guest's sh run as root, over SSH: it takes
// components from its standard input and installs them. Its arguments and its
// output are told in its first lines.
//
//go:embed receive/ovsactl-receive
var ReceiveScript string

// ConfigureScript is what puts a component's settings and files into their places,
// likewise.
//
//go:embed configure/ovsactl-configure
var ConfigureScript string

// ReadyScript is what waits until a component's unit is ready, likewise.
//
//go:embed ready/ovsactl-ready
var ReadyScript string
