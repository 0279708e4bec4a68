package main

import (
	"os"
	"strings"
	"testing"
)

// A daemon that may have few descriptors: where they do not suffice for another container, runtimes cannot make it.
// Those that are there are served, and when one ends there is room for another.
func TestRuntimeFewDescriptors(t *testing.T) {
	const few = "320"
	s := newSite(t, both)
	d := &daemonProcess{exited: make(chan struct{})}
	d.cmd = program("serve", "--config", s.config())
	d.cmd.Args = append([]string{"sh", "-c", `ulimit -n ` + few + `; exec "$0" "$@"`, d.cmd.Path}, d.cmd.Args[1:]...)
	d.cmd.Path = "/bin/sh"
	d.cmd.Stderr = &d.log
	s.start(t, d)
	profile := s.profile(t)
	const script = `mknod /tmp/null c 1 3 && echo made; while [ ! -e /tmp/go ]; do sleep 0.1; done; ` +
		`mknod /tmp/zero c 1 5 && echo again; exec sleep 1000`
	var served []*bundle
	create := func() (b *bundle, err error) {
		b = newBundle(t, "runc", profile, script)
		if err = b.create(t); err == nil {
			mustRun(t, b.cmd("start", b.id))
			b.said(t, "made\n")
		}
		return b, err
	}
	for {
		b, err := create()
		if err != nil {
			wantText(t, b.output(t), s.socket(), "no such file or directory")
			break
		}
		served = append(served, b)
		if len(served) > 100 {
			t.Fatalf("%d containers are served", len(served))
		}
	}
	t.Logf("%d containers are served", len(served))
	d.logs(t, "no descriptors are left for another container")
	wrapped := s.newWrappedBundle(t, "runc", script)
	if err := wrapped.create(t); err == nil {
		t.Error("the wrapper creates a container although no descriptors are left")
	}
	wantText(t, wrapped.output(t), "no descriptors are left for another container: wait until one ends, or raise RLIMIT_NOFILE")
	for _, b := range served {
		if err := os.WriteFile(b.dir+"/rootfs/tmp/go", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.said(t, "again\n")
	}
	if len(served) < 5 {
		t.Errorf("%d containers are served", len(served))
	}
	mustRun(t, served[0].cmd("kill", served[0].id, "KILL"))
	s.waitForContainers(t, len(served)-1)
	eventually(t, "there is room for another container", func() bool {
		_, err := create()
		return err == nil
	})
	if strings.Contains(d.log.String(), "too many open files") {
		t.Error("the daemon met its limit")
	}
}
