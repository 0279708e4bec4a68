package broker

// Unserved is why a container's plugin is not asked for it: its calls get the failure verdict.
type Unserved struct {
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
}

// unserved lists the plugins that are not asked.
func (a *attachment) unserved() (list []Unserved) {
	for _, p := range a.bound() {
		if p.refused != nil && !p.binding.Withheld {
			list = append(list, Unserved{p.binding.Plugin.Name(), p.refused.Error()})
		}
	}
	return list
}
