package broker

// Unserved is why a container's plugin is not asked for it: its calls get the failure verdict.
type Unserved struct {
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
}

// unserved lists the plugins that are not asked.
func (a *attachment) unserved() (list []Unserved) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.assignment.Bindings == nil {
		return nil // the plugins are not known yet
	}
	for i := range a.plugins {
		if p := &a.plugins[i]; p.refused != nil {
			list = append(list, Unserved{p.binding.Plugin.Name(), p.refused.Error()})
		}
	}
	return list
}
