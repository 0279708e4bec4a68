package broker

import "github.com/intercede/intercede/internal/wire"

// routes lead from a syscall's name to the plugins that take it, in the order in which they are asked.
type routes map[string][]route

// route leads to a plugin that takes a syscall.
type route struct {
	plugin  int // index of its binding
	syscall *wire.Syscall
}

// newRoutes finds the syscalls that each binding's plugin takes with the binding's settings.
func newRoutes(bindings []Binding) routes {
	rs := routes{}
	for i, b := range bindings {
		for _, sc := range wire.Narrow(b.Plugin.Manifest(), b.Settings).GetSyscalls() {
			rs[sc.GetName()] = append(rs[sc.GetName()], route{plugin: i, syscall: sc})
		}
	}
	return rs
}
