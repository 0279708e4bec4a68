package broker

import "slices"

// servingAny returns the bindings of the plugins that serve containers without a user namespace of their own. No
// other plugin is to hear of such a container: its callers may be root of the host, and lack nothing that a plugin
// could lend.
func servingAny(bindings []Binding) []Binding {
	return slices.DeleteFunc(slices.Clone(bindings), func(b Binding) bool { return !b.Plugin.Manifest().GetAnyContainer() })
}

// pluginNames are those of the bindings.
func pluginNames(bindings []Binding) []string {
	names := []string{}
	for _, b := range bindings {
		names = append(names, b.Plugin.Name())
	}
	return names
}
