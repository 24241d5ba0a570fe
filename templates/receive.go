package templates

import _ "embed"

// ReceiveScript is what apply has a guest's sh run as root, over SSH: it takes
// components from its standard input and installs them. Its arguments and its
// output are told in its first lines.
//
//go:embed receive/ovsactl-receive
var ReceiveScript string
