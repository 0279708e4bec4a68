package main

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// TestServePriority has the daemon and its plugins with the priority of the config, on all threads.
func TestServePriority(t *testing.T) {
	s := newSite(t, "priority = -3\n"+both)
	d := s.serve(t)
	want := linux.Priority{Nice: -3}
	if sets, err := linux.ThreadCapabilities(); err != nil {
		t.Fatal(err)
	} else if sets.Effective&(1<<unix.CAP_SYS_NICE) == 0 {
		want = linux.Priority{} // the daemon says so, and serves
	}
	processes := map[string]int{"the daemon": d.cmd.Process.Pid}
	for _, p := range s.status(t).Plugins {
		processes["plugin "+p.Name] = p.PID
	}
	for name, pid := range processes {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range threads {
			tid, err := strconv.Atoi(entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := linux.ThreadPriority(tid); err == nil && got != want {
				t.Errorf("%s: thread %d has %+v, want %+v", name, tid, got, want)
			}
		}
	}
}
