// Package buildinfo says what a binary was built from.
package buildinfo

import "runtime/debug"

// version is set by the linker in release builds (-X).
var version = ""

// Version returns the release version, or the VCS revision, or "devel".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
