package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/sdk/sdktest"
)

// What would keep containers from being served is found before there is one, with its place and what to do.
func TestCheckFindsWhatPluginsRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		want   []string
	}{
		"no block device": {"[plugins.mount.config]\nallowed = [\"ext4\", \"tmpfs\"]\n",
			[]string{`:9:1: plugins.mount.config.allowed: "tmpfs" has no block device`, "take it out"}},
		"modules that are not loaded": {"[plugins.mount.config]\nallowed = [\"overlay\", \"proc\", \"nfs4\"]\n",
			[]string{`"overlay" has no block device`, `"proc" has no block device`, `"nfs4" has no block device`}},
		"in both": {"[plugins.mount.config]\nallowed = [\"ext4\"]\nfuse = { ext4 = \"fuse2fs\" }\n",
			[]string{`:10:1: plugins.mount.config.fuse: "ext4" is in allowed too`}},
		"never shifted": {"[plugins.mount.config]\nallowed = [\"ext2\"]\nshift = true\n",
			[]string{`"ext2" cannot be mounted with shift`, "shift = false"}},
		"shifted by a rule": {"[plugins.mount.config]\nallowed = [\"ext2\"]\n" +
			"[[container]]\nmatch = { name = \"a\" }\nplugins.mount.config.shift = true\n",
			[]string{`:9:1: plugins.mount.config.allowed: "ext2" cannot be mounted with shift`}},
		"rule": {"[plugins.mount]\nenabled = false\n[[container]]\nmatch = { name = \"a\" }\n" +
			"plugins.mount = { enabled = true, config = { allowed = [\"proc\"] } }\n",
			[]string{`container[0].plugins.mount.config.allowed: "proc" has no block device`}},
		"relative handler": {"[plugins.mount.config]\nfuse = { ext4 = \"../x\" }\n",
			[]string{`:9:1: plugins.mount.config.fuse: handler "../x" of ext4: want a name`}},
		"unsafe verdict": {"[plugins.bpf]\non_failure = \"continue\"\n[plugins.bpf.config]\ndevices = true\n",
			[]string{`plugins.bpf.on_failure: "continue": the kernel would do`, "EPERM"}},
		"attribute": {"[plugins.setxattr.config]\nattributes = [\"security.c*\"]\n",
			[]string{`plugins.setxattr.config.attributes: attribute "security.c*"`}},
		"no runtime": {"[oci_runtime]\nruntime = \"/usr/bin/none-such\"\n", []string{`:7:1: oci_runtime.runtime: "/usr/bin/none-such"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, test.config)
			r := intercede(t, "check", "--config", s.config())
			if r.status != cli.ExitFailure {
				t.Errorf("status %d, want %d", r.status, cli.ExitFailure)
			}
			wantText(t, r.stderr, test.want...)
		})
	}
}

// A runtime that is intercede, by its name or by a script, would execute itself for ever.
func TestCheckFindsRuntimeThatLeadsBack(t *testing.T) {
	s := newSite(t, both)
	link, script, other := filepath.Join(s.dir, "intercede-runc"), filepath.Join(s.dir, "script"), filepath.Join(s.dir, "other")
	if err := os.Symlink(filepath.Join(binaries, "intercede"), link); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{script: "#!/bin/sh\nexec " + link + " \"$@\"\n", other: "#!/bin/sh\nexit 3\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for runtime, want := range map[string]string{
		link: "is intercede itself", script: "it executes intercede itself: name the runtime", other: "is it an OCI runtime?",
	} {
		s.write(t, both+"[oci_runtime]\nruntime = \""+runtime+"\"\n")
		r := intercede(t, "check", "--config", s.config())
		if r.status != cli.ExitFailure {
			t.Errorf("%s: status %d", runtime, r.status)
		}
		wantText(t, r.stderr, "oci_runtime.runtime: ", want)
	}
	s.write(t, both+"[oci_runtime]\nruntime = \"/bin/true\"\n")
	mustRun(t, program("check", "--config", s.config()))
}

// What is dangerous and legal is said, and the config is in force.
func TestCheckWarns(t *testing.T) {
	s := newSite(t, "[plugins.mknod.config]\ndevices = [\"c 1:3\", \"c 1:1\", \"b 8:0\"]\n"+
		"[plugins.mount.config]\nallowed = [\"ext4\", \"exf4\"]\n")
	r := intercede(t, "check", "--config", s.config())
	if r.status != 0 {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stdout, "no problems, 4 warnings")
	wantText(t, r.stderr, `:9:1: plugins.mknod.config.devices: warning: "c 1:1": whoever opens /dev/mem`,
		`"b 8:0": whoever opens a disk of the host`,
		"plugins.mount: warning: devices, which has its default:", `"exf4" is not a filesystem that this kernel has`)
	if strings.Contains(r.stderr, "c 1:3") {
		t.Errorf("a warning of /dev/null: %s", r.stderr)
	}
	r = intercede(t, "check", "--config", s.config(), "--json")
	var problems []struct{ Warning bool }
	if err := json.Unmarshal([]byte(r.stdout), &problems); err != nil || len(problems) != 4 || !problems[0].Warning || r.status != 0 {
		t.Errorf("status %d, %v: %s", r.status, err, r.stdout)
	}
	if r := intercede(t, "run", "--config", s.config(), "--", "true"); r.status != 0 {
		t.Errorf("run: status %d: %s", r.status, r.stderr)
	}
}

// Settings that a plugin refuses keep the daemon from starting, and a reload from changing anything.
func TestServeRefusesWhatPluginsRefuse(t *testing.T) {
	const bad = "[plugins.mount.config]\nallowed = [\"tmpfs\"]\n"
	s := newSite(t, bad)
	for _, command := range [][]string{{"serve"}, {"run"}} {
		args := append(command, "--config", s.config())
		if command[0] == "run" {
			args = append(args, "--", "true")
		}
		r := intercede(t, args...)
		if r.status == 0 {
			t.Errorf("%v: status 0", command)
		}
		wantText(t, r.stderr, `plugins.mount.config.allowed: "tmpfs" has no block device`)
	}
}

// Who is not root is told so in one sentence.
func TestNotRoot(t *testing.T) {
	sdktest.RequireRoot(t)
	for _, args := range [][]string{{"check"}, {"serve"}, {"run", "true"}, {"reload"}, {"upgrade"},
		{"revoke", "x"}, {"status"}, {"trace"}, {"why", "1"}} {
		cmd := program(args...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		r := runCmd(t, cmd)
		if want := "intercede: intercede " + args[0] + " needs root: run it with sudo\n"; r.status != cli.ExitFailure || r.stderr != want {
			t.Errorf("%v: status %d, %q", args, r.status, r.stderr)
		}
	}
}

// Doctor sees the daemon of the config, and says what to do without one.
func TestDoctorSeesDaemon(t *testing.T) {
	s := newSite(t, both)
	daemon := func() string {
		t.Helper()
		r := intercede(t, "doctor", "--json", "--config", s.config())
		var checks []struct{ Name, State, Found, Means string }
		if err := json.Unmarshal([]byte(r.stdout), &checks); err != nil {
			t.Fatalf("%v: %s", err, r.stdout)
		}
		for _, c := range checks {
			if c.Name == "daemon" {
				return c.State + " " + c.Found + " " + c.Means
			}
		}
		return ""
	}
	wantText(t, daemon(), "degraded", "intercede serve")
	s.serve(t)
	wantText(t, daemon(), "ok", "2 plugins, 0 containers")
}

// A plugin that was taken from a container is not asked again.
func TestRevokeCommand(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	m := s.startMaker(t)
	m.want(t, "made")
	id := s.status(t).Containers[0].ID
	wantText(t, mustRun(t, program("revoke", id[:6], "mknod", "--config", s.config())),
		"container "+id+": mknod is not asked any more, its calls get continue")
	m.want(t, "not permitted")
	wantText(t, mustRun(t, program("status", "--config", s.config())), "NOT ASKED FOR", "the operator has taken the plugin from the container")
	r := intercede(t, "revoke", id, "mknod", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("once more: status %d", r.status)
	}
	wantText(t, r.stderr, "nothing was revoked")
	m.in.Close()
}
