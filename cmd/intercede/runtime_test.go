package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/intake/oci"
	"golang.org/x/sys/unix"
)

// eachRuntime runs a test with every OCI runtime.
func eachRuntime(t *testing.T, test func(t *testing.T, runtime string)) {
	t.Helper()
	for runtime := range runtimes {
		t.Run(runtime, func(t *testing.T) { test(t, runtime) })
	}
}

// profile is the profile for the site's daemon.
func (s *site) profile(t *testing.T, args ...string) string {
	t.Helper()
	return mustRun(t, program(append([]string{"profile", "--config", s.config(), "--format", "oci"}, args...)...))
}

// The whole life of a container.
func TestRuntimeLife(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		s.serve(t)
		b := newBundle(t, runtime, s.profile(t), `
			mknod -m 600 /tmp/null c 1 3 && stat -c 'node %t:%T %a %u:%g' /tmp/null
			mknod /dev/zero0 c 1 5 && stat -c 'node %t:%T %a %u:%g' /dev/zero0
			mknod /tmp/kmsg c 1 11
			free -k
			echo ready
			exec sleep 1000`)
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		s.waitForContainers(t, 1)
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "ready\n")
		wantText(t, b.output(t), "node 1:3 600 0:0\n", "node 1:5 644 0:0\n", "/tmp/kmsg: Operation not permitted", "Mem:          65536")

		made := mustRun(t, b.cmd("exec", b.id, "/bin/sh", "-c", "mknod /tmp/full c 1 7 && stat -c 'node %t:%T' /tmp/full"))
		wantText(t, made, "node 1:7\n")
		status := s.status(t).Containers
		if len(status) != 1 || status[0].ID != b.id || status[0].Runtime != "oci" || status[0].Calls < 5 || status[0].Failures != 0 {
			t.Errorf("status: %+v", status)
		}

		mustRun(t, b.cmd("kill", b.id, "KILL"))
		s.waitForContainers(t, 0)
		eventually(t, "the runtime can delete the container", func() bool { return runCmd(t, b.cmd("delete", b.id)).status == 0 })
	})
}

// Values of any length, beside the rules of a usual base for the same calls. What is longer than a value can be is the
// kernel's to refuse.
func TestRuntimeWithValues(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, "[plugins.setxattr.config]\nattributes = [\"trusted.overlay.opaque=y\", \"trusted.glusterfs.*\"]\n")
		s.serve(t)
		b := newBundle(t, runtime, s.profile(t, "--base", "../../core/filter/testdata/containers-default.json"), `
			for value in y z; do calls setxattr /tmp trusted.overlay.opaque $value; done
			for value in x abcdef; do calls setxattr /tmp trusted.glusterfs.gfid $value; done
			calls setxattr /tmp trusted.other abcdef
			echo ready`)
		buildCalls(t, b.dir+"/rootfs/bin/calls")
		mustRun(t, exec.Command("sed", "-i", "s/CAP_KILL/CAP_SYS_ADMIN/g", b.dir+"/config.json"))
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "ready\n")
		wantText(t, b.output(t), "set\noperation not permitted\nset\nset\noperation not permitted\n")
	})
}

// A base profile that refuses some calls: what the plugins take is answered, the base decides on the rest of it.
func TestRuntimeWithBaseProfile(t *testing.T) {
	const base = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["mknod", "mknodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
		{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		s.serve(t)
		file := s.dir + "/base.json"
		if err := os.WriteFile(file, []byte(base), 0o644); err != nil {
			t.Fatal(err)
		}
		b := newBundle(t, runtime, s.profile(t, "--base", file), `mknod /tmp/null c 1 3 && echo made; mkfifo /tmp/f; mkdir /tmp/d; echo ready`)
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "ready\n")
		wantText(t, b.output(t), "made\n", "/tmp/f: Operation not supported", "'/tmp/d': No space left")
	})
}

func TestRuntimeWithoutBroker(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		b := newBundle(t, runtime, s.profile(t), "echo started")
		if err := b.create(t); err == nil {
			t.Error("the container was created")
		}
		wantText(t, b.output(t), s.socket())
	})
}

// A daemon that dies under a container: its calls get ENOSYS, and nothing hangs. The next daemon serves new containers.
func TestRuntimeBrokerDies(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		d := s.serve(t)
		const script = `mknod /tmp/null c 1 3 && echo made; while [ ! -e /tmp/go ]; do sleep 0.02; done; ` +
			`mknod /tmp/zero c 1 5; echo ready; exec sleep 1000`
		b := newBundle(t, runtime, s.profile(t), script)
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "made\n")
		d.kill()
		if err := os.WriteFile(b.dir+"/rootfs/tmp/go", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.said(t, "ready\n")
		wantText(t, b.output(t), "/tmp/zero: Function not implemented")
		s.serve(t)
		s.waitForContainers(t, 0)
	})
}

// The broker takes its time: calls made meanwhile wait, and are answered when it comes.
func TestRuntimeBrokerSlow(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		slow, arrivals := slowBroker(t, s)
		profile := strings.ReplaceAll(s.profile(t), s.socket(), slow)
		b := newBundle(t, runtime, profile, `echo trying; mknod /tmp/null c 1 3 && echo made`)
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "trying\n")
		arrival := <-arrivals
		s.serve(t)
		if err := oci.Send(t.Context(), s.socket(), arrival.State, arrival.Listener); err != nil {
			t.Fatal(err)
		}
		arrival.Listener.Close()
		b.said(t, "made\n")
	})
}

// slowBroker takes listeners on a socket of its own and does nothing with them.
func slowBroker(t *testing.T, s *site) (path string, arrivals <-chan oci.Arrival) {
	t.Helper()
	path = s.dir + "/slow"
	server, err := oci.Listen(path, nil, func(unix.Ucred, error) {})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan oci.Arrival, 1)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, nil, func(a oci.Arrival) { received <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return path, received
}
