package ociruntime

import (
	"slices"
	"strings"

	"github.com/intercede/intercede/core/policy/config"
)

// settings are what the wrapper takes from config.toml.
type settings struct {
	control   string // path of the daemon's admin socket
	runtime   string
	onMissing string
	mountDev  bool
}

// readSettings reads the config. With an error the settings are the defaults, which do for commands that create
// nothing: a mistake in the config is not to keep anybody from stopping containers. What else is wrong with the config
// is the daemon's business, which goes on with the one that it has.
func readSettings(options Options) (settings, error) {
	doc, problems := config.Load(options.Config, config.Options{})
	problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return !concerns(p.Key) })
	defaults := config.DefaultOCIRuntime()
	s := settings{runtime: defaults.Runtime, onMissing: defaults.OnMissing}
	if len(problems) == 0 {
		s = settings{doc.Broker.Control, doc.OCIRuntime.Runtime, doc.OCIRuntime.OnMissing, doc.OCIRuntime.MountDev}
	}
	if options.Runtime != "" {
		s.runtime = options.Runtime
	}
	if len(problems) > 0 {
		return s, problems
	}
	return s, nil
}

// concerns reports whether a problem with this key is one for the wrapper. Without a key it is about the file as a
// whole, such as that others may write it.
func concerns(key string) bool {
	return key == "" || key == "broker" || key == "broker.control" || key == "oci_runtime" || strings.HasPrefix(key, "oci_runtime.")
}
