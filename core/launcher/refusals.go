package launcher

import (
	"maps"
	"slices"
	"sync"

	"github.com/intercede/intercede/internal/sandbox"
	"github.com/rs/zerolog"
)

// refusals are the system calls that the sandbox has refused to a plugin, in all its processes.
type refusals struct {
	declared []string // by the manifest
	log      zerolog.Logger

	mu    sync.Mutex
	calls map[string]int // by name, of which there are as many as sandbox filters know
}

func newRefusals(declared []string, log zerolog.Logger) *refusals {
	return &refusals{declared: declared, log: log, calls: map[string]int{}}
}

// add counts a refusal, and logs the first of a call.
func (r *refusals) add(refusal sandbox.Refusal) {
	r.mu.Lock()
	r.calls[refusal.Name]++
	first := r.calls[refusal.Name] == 1
	r.mu.Unlock()
	if !first {
		return
	}
	hint := "a plugin that needs it names it in Uses.Syscalls of its manifest"
	if slices.Contains(r.declared, refusal.Name) {
		hint = "no plugin may call it with these arguments"
	}
	r.log.Warn().Str("syscall", refusal.Name).Stringer("call", refusal).
		Msg("the sandbox refused a system call of the plugin, with EPERM: " + hint)
}

// list returns how often each call was refused; nil: none was.
func (r *refusals) list() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		return nil
	}
	return maps.Clone(r.calls)
}
