package policy

import "fmt"

// Origin is where a container has a setting from.
type Origin struct {
	File       string `json:"file,omitempty"` // with Line and Key, the place in the config; none: nothing set it
	Line       int    `json:"line,omitempty"`
	Key        string `json:"key,omitempty"`        // "container[0].plugins.mknod.enabled" is in the first rule
	Annotation string `json:"annotation,omitempty"` // of the container; the place is then that of the rule that accepts it
}

// String is "config.toml:12: plugins.mknod.config.devices", "annotation NAME, accepted by config.toml:14" or "default".
func (o Origin) String() string {
	place := fmt.Sprintf("%s:%d", o.File, o.Line)
	switch {
	case o.Annotation != "":
		return fmt.Sprintf("annotation %s, accepted by %s", o.Annotation, place)
	case o.Key != "":
		return place + ": " + o.Key
	default:
		return "default"
	}
}
