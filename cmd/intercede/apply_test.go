package main

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"golang.org/x/sys/unix"
)

// narrowMknod leaves zero (c 1:5) out, which a maker makes, and null in.
const narrowMknod = "[plugins.mknod.config]\ndevices = [\"c 1:3\"]\n"

// reloadRunning is the command.
func (s *site) reloadRunning(t *testing.T, want ...string) {
	t.Helper()
	wantText(t, mustRun(t, program("reload", "--running", "--config", s.config())), want...)
}

// A running container gets what the config gives it now, also under the next daemon, and keeps what was revoked.
func TestReloadRunning(t *testing.T) {
	s := newSite(t, both)
	s.keep(t)
	m := s.startMaker(t)
	m.want(t, "made")
	id := s.status(t).Containers[0].ID

	s.reloadRunning(t, "nothing is different from before", "running containers that have the same plugins and settings as before: 1")
	s.write(t, both+narrowMknod)
	mustRun(t, program("reload", "--config", s.config()))
	m.want(t, "made")
	s.reloadRunning(t, "container "+id+": changed mknod\n")
	m.want(t, "not permitted")

	s.write(t, both+"[plugins.sched]\n[[container]]\nmatch = { id = \"*\" }\n[container.plugins.mknod]\nenabled = false\n")
	s.reloadRunning(t, "container "+id+": added sched; taken away mknod\n",
		"its filter may not notify, so that the kernel has them until it is created anew: sched_setattr, ")
	m.want(t, "not permitted")
	status := mustRun(t, program("status", "--config", s.config()))
	wantText(t, status, "MAY NOT BE NOTIFIED", "sched_setattr, ")
	if strings.Contains(status, "NOT ASKED FOR") {
		t.Errorf("status: %s", status)
	}
	wantText(t, mustRun(t, program("why", id, "--config", s.config())),
		"Its filter, which is older than its policy, may not notify sched_setattr")

	s.write(t, both)
	s.reloadRunning(t, "container "+id+": added mknod; taken away sched\n")
	m.want(t, "made")
	s.write(t, both+narrowMknod)
	s.reloadRunning(t, "changed mknod")
	unix.Kill(s.status(t).PID, unix.SIGKILL)
	m.want(t, "not permitted") // under the next daemon
	s.write(t, both)
	s.reloadRunning(t, "changed mknod")
	m.want(t, "made")

	mustRun(t, program("revoke", id, "mknod", "--config", s.config()))
	s.reloadRunning(t, "taken by `intercede revoke`, which stays so: mknod")
	m.want(t, "not permitted")
	m.in.Close()
}

// The status of the command, and what it prints, tell of a container that keeps what it had.
func TestReloadRunningFails(t *testing.T) {
	done := &control.Reloaded{Containers: []broker.Applied{
		{Container: "a", Changed: []string{"mount"}, Kept: []string{"mount: 7:1"}, Busy: 2},
		{Container: "b", Error: "it is busy"}, {Container: "c"},
	}}
	var out strings.Builder
	printApplied(&out, done.Containers)
	wantText(t, out.String(), "container a: changed mount\n  done before, and kept account of: mount: 7:1\n  2 calls have missed",
		"container b keeps its former policy: it is busy\n", "settings as before: 1\n")
	if err := problemsOf(done); err == nil || !strings.Contains(err.Error(), "1 of 3 running containers") {
		t.Error(err)
	}
	done.Containers[1].Error = ""
	if err := problemsOf(done); err != nil {
		t.Error(err)
	}
}

// While containers call as fast as they can, the policy changes 200 times. No call gets anything but what one of the
// policies gives it that are in force while it is made.
func TestReloadRunningUnderLoad(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	const script = `for i in 1 2; do
		(while [ ! -e /tmp/end ]; do rm -f /tmp/n$i; mknod /tmp/n$i c 1 3 || echo WRONG; done) &
	done; wait; echo over`
	b := newBundle(t, "runc", s.profile(t), script)
	if err := b.create(t); err != nil {
		t.Fatalf("create: %v: %s", err, b.output(t))
	}
	mustRun(t, b.cmd("start", b.id))
	makers := []*maker{s.startMaker(t), s.startMaker(t)}
	s.waitForContainers(t, 3)

	var calls, applied atomic.Int64 // applied: one more at the begin and at the end of each
	end := make(chan struct{})
	var calling sync.WaitGroup
	for _, m := range makers {
		calling.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				before := applied.Load()
				made := m.try(t) == "made\n"
				after := applied.Load()
				calls.Add(1)
				// Even policies, 0 at first, make it. Between an odd number and the next both are there.
				if before == after && before%2 == 0 && made != (before/2%2 == 0) {
					t.Errorf("made: %v, after %d applies", made, before/2)
					return
				}
			}
		})
	}
	for n := 1; n <= 200 && !t.Failed(); n++ {
		s.write(t, both+[]string{"", narrowMknod}[n%2])
		applied.Add(1)
		done, err := control.Reload(t.Context(), s.dir+"/control", true)
		applied.Add(1)
		if err != nil || len(done.Problems) > 0 || len(done.Containers) != 3 {
			t.Fatalf("%v: %+v", err, done)
		}
		for _, c := range done.Containers {
			if c.Error != "" || len(c.Changed) != 1 {
				t.Errorf("%+v", c)
			}
		}
		seen := calls.Load()
		eventually(t, "there are calls", func() bool { return t.Failed() || calls.Load() > seen+2 })
	}
	close(end)
	calling.Wait()
	if err := os.WriteFile(b.dir+"/rootfs/tmp/end", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b.said(t, "over\n")
	if said := b.output(t); strings.Contains(said, "WRONG") || strings.Contains(said, "mknod") {
		t.Errorf("what both policies allow was refused: %s", said)
	}
	for _, c := range s.status(t).Containers {
		if c.Failures != 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, m := range makers {
		m.in.Close()
	}
}
