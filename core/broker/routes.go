package broker

import (
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
)

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

// admits says whether the plugin is shown the call, is passed over, or does not let it happen. Of a call that came
// through a multiplexer the arguments are not known.
func (r route) admits(n *notify.Notification) wire.Compat {
	compat := r.syscall.GetCompat()
	if compat != wire.Compat_COMPAT_TAKE && wire.IsMultiplexed(n.Arch, n.NR) {
		return compat
	}
	if !r.syscall.Wants(n.Arch, &n.Args) {
		return wire.Compat_COMPAT_CONTINUE
	}
	if wire.IsNative(n.Arch, n.NR) {
		return wire.Compat_COMPAT_TAKE
	}
	return compat
}
