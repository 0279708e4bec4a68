//go:build !intercede_delays

package pause

// At does nothing.
func At(Step) {}

// Environment returns nothing.
func Environment() []string { return nil }
