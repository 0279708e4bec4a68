package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// JoinCgroups adds the steps that move the process to the target's cgroups (cgroups(7)), in the hierarchies of version
// 1 that have one of these controllers, and in version 2: what the target may use, of devices too, then holds for it.
// With no controllers: in all hierarchies. The descriptors in use are closed by the function returned.
//
// The broker opens the files by which a process joins, so that this process needs no power over cgroups, and sees none.
func (t *Target) JoinCgroups(s *Steps, controllers ...string) (release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	handles, err := t.ask(&capture.Want{Part: capture.PartCgroups, Controllers: controllers})
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range handles {
		h := &handles[i]
		if h.errno != 0 && err == nil {
			err = fmt.Errorf("thread %d: open cgroup %s: %w", t.tid, h.text, h.errno)
		}
		if h.fd >= 0 {
			fds = append(fds, h.fd)
			s.KeepOpen(h.fd)
			s.Add("join "+string(h.text), unix.SYS_WRITE, h.fd, "0", 1)
		}
		*h = handle{fd: -1, taken: true}
	}
	if err != nil {
		linux.CloseAll(fds...)
		return nil, err
	}
	return func() {
		linux.CloseAll(fds...)
		fds = nil
	}, nil
}
