// Package version says which build of the project this program is.
package version

import (
	"runtime/debug"
	"strings"
)

// number is set by the linker, in packages: -X github.com/intercede/intercede/internal/version.number=0.1.0.
var number string

// Number is the version: "0.1.0", what Go notes for a program of `go install` without its "v", or "devel".
func Number() string {
	if number != "" {
		return number
	}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version[1:]
	}
	return "devel"
}
