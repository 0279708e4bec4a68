package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/sdk/sdktest"
)

// newWrappedBundle makes a bundle without seccomp whose runtime is the wrapper with this site's config, executing the
// runtime. The global options are the wrapper's.
func (s *site) newWrappedBundle(t *testing.T, runtime, script string, global ...string) *bundle {
	t.Helper()
	b := newBundle(t, runtime, "{}", script)
	path, err := exec.LookPath(runtime)
	if err != nil {
		t.Fatal(err)
	}
	wrapper := append([]string{filepath.Join(binaries, "intercede"), "oci-runtime", "--config", s.config(), "--runtime", path}, global...)
	command := append(wrapper, "--", "--root", b.dir+"/state", "--log", b.dir+"/log", "--log-format", "json")
	if runtime == "crun" { // see runtimes
		command = append([]string{"unshare", "-m", "--propagation", "private", "sh",
			"-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh"}, command...)
	}
	b.command = command
	b.edit(t, func(spec map[string]any) { delete(spec["linux"].(map[string]any), "seccomp") })
	return b
}

// edit changes config.json.
func (b *bundle) edit(t *testing.T, change func(spec map[string]any)) {
	t.Helper()
	var spec map[string]any
	if err := json.Unmarshal([]byte(b.spec(t)), &spec); err != nil {
		t.Fatal(err)
	}
	change(spec)
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir+"/config.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) spec(t *testing.T) string { return readText(t, b.dir+"/config.json") }

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The whole life of a container, by the commands that engines use.
func TestWrapperLife(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "mknod /tmp/null c 1 3 && stat -c 'node %t:%T' /tmp/null; free -k; echo ready; exec sleep 1000")
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		s.waitForContainers(t, 1)
		wantText(t, mustRun(t, b.cmd("state", b.id)), `"created"`)
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "ready\n")
		wantText(t, b.output(t), "node 1:3\n", "Mem:          65536")
		wantText(t, mustRun(t, b.cmd("exec", b.id, "/bin/sh", "-c", "mknod /tmp/full c 1 7 && stat -c 'node %t:%T' /tmp/full")), "node 1:7\n")
		mustRun(t, b.cmd("kill", b.id, "KILL"))
		s.waitForContainers(t, 0)
		eventually(t, "the runtime can delete the container", func() bool { return runCmd(t, b.cmd("delete", b.id)).status == 0 })
	})
}

// The rules decide for each container; one that gets nothing has its file untouched.
func TestWrapperRules(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\nenabled = false\n[[container]]\nmatch.annotations.team = \"a\"\nplugins.mknod.enabled = true\n")
	s.serve(t)
	for team, want := range map[string]string{"a": "made", "b": "Operation not permitted"} {
		t.Run(team, func(t *testing.T) {
			b := s.newWrappedBundle(t, "runc", "mknod /tmp/null c 1 3 && echo made; echo ready")
			b.edit(t, func(spec map[string]any) { spec["annotations"] = map[string]string{"team": team} })
			before := b.spec(t)
			r := runCmd(t, b.cmd("run", b.id))
			wantText(t, r.stdout+r.stderr, want, "ready\n")
			if changed := b.spec(t) != before; changed != (team == "a") {
				t.Errorf("config.json changed: %t", changed)
			}
		})
	}
}

// A bundle that has the daemon's listener already, from an earlier start or from `intercede profile`, gets what the
// rules say now.
func TestWrapperMakesAnew(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n")
	d := s.serve(t)
	profile := mustRun(t, program("profile", "--config", s.config(), "--format", "oci"))
	started := s.newWrappedBundle(t, "runc", "mknod /tmp/null c 1 3 && echo made; echo ready")
	profiled := s.newWrappedBundle(t, "runc", "mknod /tmp/null c 1 3 && echo made; echo ready")
	profiled.edit(t, func(spec map[string]any) { spec["linux"].(map[string]any)["seccomp"] = json.RawMessage(profile) })
	for _, b := range []*bundle{started, profiled} {
		r := runCmd(t, b.cmd("run", b.id))
		wantText(t, r.stdout+r.stderr, "Operation not permitted", "ready\n")
	}
	s.write(t, both)
	d.reload(t, "config reloaded")
	for _, b := range []*bundle{started, profiled} {
		r := runCmd(t, b.cmd("run", b.id))
		wantText(t, r.stdout+r.stderr, "made\n", "ready\n")
	}
}

// A bundle that cannot be changed, or whose listener cannot be handed over, is an error that says what to do, or starts
// without interception where the config says so.
func TestWrapperWithoutInterception(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *bundle)
		want    []string
	}{
		"read-only": {func(t *testing.T, b *bundle) {
			b.edit(t, func(spec map[string]any) { spec["root"] = map[string]any{"path": b.dir + "/rootfs"} })
			mustRun(t, exec.Command("sh", "-ec", `mkdir "$1/ro"; mv "$1/config.json" "$1/ro"`, "sh", b.dir))
			b.command = append([]string{"unshare", "-m", "--propagation", "private", "sh", "-ec",
				`mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; cd "$0"; exec "$@"`, b.dir + "/ro"}, b.command...)
		}, []string{"replacing config.json", "read-only file system", "let the runtime write to the bundle's folder"}},
		"large annotations": {func(t *testing.T, b *bundle) {
			b.edit(t, func(spec map[string]any) {
				spec["annotations"] = map[string]string{"big": strings.Repeat("x", 15<<20)}
				delete(spec["linux"].(map[string]any), "resources") // runc has more memory than the limit in the container's cgroup
			})
		}, []string{"the annotations have 157", "shorten them"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, both)
			s.serve(t)
			b := s.newWrappedBundle(t, "runc", "mknod /tmp/null c 1 3; echo ready")
			test.prepare(t, b)
			r := runCmd(t, b.cmd("run", b.id))
			if r.status == 0 {
				t.Errorf("it is created: %+v", r)
			}
			wantText(t, r.stderr, append(test.want, `oci_runtime.on_missing = "fail"`)...)
			s.write(t, both+"[oci_runtime]\non_missing = \"plain\"\n")
			r = runCmd(t, b.cmd("run", b.id))
			wantText(t, r.stdout+r.stderr, "Operation not permitted", "ready\n")
			wantText(t, readText(t, b.dir+"/log"), "created without interception", test.want[0])
		})
	}
}

// What the real runtime prints, and its exit status, are its own.
func TestWrapperPassesThrough(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"features"}, {"state", "missing"}, {"nonsense"}, {"spec", "--nonsense"}, {"list"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			s := newSite(t, both)
			b := s.newWrappedBundle(t, "runc", "true")
			wrapped := runCmd(t, b.cmd(args...))
			direct := runCmd(t, exec.Command("runc",
				append([]string{"--root", b.dir + "/state", "--log", b.dir + "/log", "--log-format", "json"}, args...)...))
			if wrapped != direct {
				t.Errorf("through the wrapper\n%+v\nwithout\n%+v", wrapped, direct)
			}
		})
	}
}

// Arguments, environment and descriptors reach the real runtime as they were, and it is the same process.
func TestWrapperIsReplaced(t *testing.T) {
	s := newSite(t, "")
	fake := s.dir + "/runtime"
	script := "#!/bin/sh\necho \"pid $$ fd $(cat <&3) env $MARK\"\nfor a; do echo \"[$a]\"; done\nulimit -Sn\nexit 7\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fmt.Fprint(w, "inherited")
	w.Close()
	cmd := exec.Command("sh", "-c", `ulimit -Sn 333; exec "$@"`, "sh", filepath.Join(binaries, "intercede"), "oci-runtime",
		"--config", s.config(), "--runtime", fake, "--", "--root", "a b", "", "kill", "--", "x")
	cmd.ExtraFiles, cmd.Env = []*os.File{r}, append(os.Environ(), "MARK=kept")
	got := runCmd(t, cmd)
	want := fmt.Sprintf("pid %d fd inherited env kept\n[--root]\n[a b]\n[]\n[kill]\n[--]\n[x]\n333\n", cmd.ProcessState.Pid())
	if got.status != 7 || got.stdout != want || got.stderr != "" {
		t.Errorf("%+v\nwant %q", got, want)
	}
}

// containerd's shim has its runtime killed with it, by what belongs to the first thread alone.
func TestWrapperKeepsParentDeathSignal(t *testing.T) {
	require(t, "setpriv")
	s := newSite(t, both)
	s.serve(t)
	fake := s.dir + "/runtime"
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nexec setpriv --dump\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "runc", "{}", "")
	for range 20 {
		b.writeSpec(t, "{}", "")
		wantText(t, mustRun(t, exec.Command("setpriv", "--pdeathsig", "USR1", filepath.Join(binaries, "intercede"), "oci-runtime",
			"--config", s.config(), "--runtime", fake, "--", "create", "--bundle", b.dir, "x")), "Parent death signal: USR1\n")
		wantText(t, b.spec(t), s.socket())
	}
}

// Under the name intercede-runc every argument is the runtime's.
func TestWrapperByName(t *testing.T) {
	require(t, "runc")
	link := filepath.Join(t.TempDir(), runtimeName)
	if err := os.Symlink(filepath.Join(binaries, "intercede"), link); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--version"}, {"--help"}, {"features"}} {
		if named, direct := runCmd(t, exec.Command(link, args...)), runCmd(t, exec.Command("runc", args...)); named.status != direct.status ||
			strings.ReplaceAll(named.stdout, "/usr/sbin/", "") != strings.ReplaceAll(direct.stdout, "/usr/sbin/", "") {
			t.Errorf("%s: %+v\nwant %+v", args, named, direct)
		}
	}
}

// What is refused is said to the caller and in the runtime's log, and nothing was created or changed.
func TestWrapperRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		daemon bool
		edit   func(spec map[string]any)
		want   []string
	}{
		"a listener of its own": {both, true, func(spec map[string]any) {
			spec["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/other"}
		}, []string{"it has a listenerPath", "/run/other", "config.json"}},
		"no daemon":    {both, false, nil, []string{"nobody answers", "intercede serve", "oci_runtime.on_missing"}},
		"a bad config": {both + "[oci_runtime]\non_missing = 1\n", false, nil, []string{"oci_runtime.on_missing: 1: want"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, both)
			if test.daemon {
				s.serve(t)
			}
			s.write(t, test.config)
			b := s.newWrappedBundle(t, "runc", "echo started")
			if test.edit != nil {
				b.edit(t, test.edit)
			}
			before := b.spec(t)
			r := runCmd(t, b.cmd("run", b.id))
			if r.status != cli.ExitFailure || r.stdout != "" || b.spec(t) != before {
				t.Errorf("%+v, config.json %s", r, b.spec(t))
			}
			wantText(t, r.stderr, test.want...)
			var line struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(readText(t, b.dir+"/log")), &line); err != nil || line.Level != "error" {
				t.Errorf("log %s: %v", readText(t, b.dir+"/log"), err)
			}
			wantText(t, line.Msg, test.want...)
		})
	}
}

// on_missing = "plain": the container runs, without interception, and the log says so. A daemon that comes later is
// asked.
func TestWrapperPlainWithoutDaemon(t *testing.T) {
	s := newSite(t, both+"[oci_runtime]\non_missing = \"plain\"\n")
	b := s.newWrappedBundle(t, "runc", "mknod /tmp/null c 1 3 && echo made; echo ready")
	before := b.spec(t)
	r := runCmd(t, b.cmd("run", b.id))
	wantText(t, r.stdout+r.stderr, "Operation not permitted", "ready\n")
	if b.spec(t) != before {
		t.Error("config.json was changed")
	}
	wantText(t, readText(t, b.dir+"/log"), `"level":"warning"`, "without interception", s.dir+"/control")

	s.serve(t)
	wantText(t, mustRun(t, b.cmd("run", b.id)), "made\n")
}

// A container in the host's user namespace is left alone, whoever serves, and one line of the log says so.
func TestWrapperLeavesPrivileged(t *testing.T) {
	s := newSite(t, both)
	b := s.newWrappedBundle(t, "runc", "echo ready")
	b.edit(t, func(spec map[string]any) {
		linux := spec["linux"].(map[string]any)
		linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "user" })
		delete(linux, "uidMappings")
		delete(linux, "gidMappings")
	})
	before := b.spec(t)
	wantText(t, mustRun(t, b.cmd("run", b.id)), "ready\n")
	if b.spec(t) != before {
		t.Error("config.json was changed")
	}
	if log := readText(t, b.dir+"/log"); strings.Count(log, "no user namespace of its own") != 1 || !strings.Contains(log, `"level":"info"`) {
		t.Errorf("log: %s", log)
	}
}

// Where the daemon runs, sysinfo serves such a container, and nothing else is notified.
func TestWrapperServesPrivileged(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "free | grep Mem:; rm -f /tmp/null; mknod /tmp/null c 1 3 && echo made")
		b.edit(t, func(spec map[string]any) {
			linux := spec["linux"].(map[string]any)
			linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "user" })
			delete(linux, "uidMappings")
			delete(linux, "gidMappings")
		})
		out := mustRun(t, b.cmd("run", b.id))
		wantText(t, out, "made\n")
		// The next column may be glued to it: what is used, with the host's cache in /proc/meminfo, is less than
		// nothing.
		if limit := strconv.FormatInt(memory>>10, 10); !strings.HasPrefix(strings.Fields(out)[1], limit) {
			t.Errorf("the container sees another memory than its limit: %s", out)
		}
		spec := b.spec(t)
		if !strings.Contains(spec, `"sysinfo"`) || strings.Contains(spec, `"mknod"`) {
			t.Errorf("config.json has the filter of another plugin than sysinfo: %s", spec)
		}
	})
}

// A bundle that was started before, or that has a profile of intercede, is started as it is.
func TestWrapperRunsABundleAgain(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, both)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "rm -f /tmp/null; mknod /tmp/null c 1 3 && echo made")
		for range 2 {
			wantText(t, mustRun(t, b.cmd("run", b.id)), "made\n")
		}
	})
}

func TestWrapperRuntimeIsMissing(t *testing.T) {
	s := newSite(t, "")
	if err := os.WriteFile(s.dir+"/not-executable", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(binaries, "intercede"), s.dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for runtime, want := range map[string]string{
		"/nonexistent/runc":                  "no such file",
		"no-such-runtime":                    "not installed in /usr/local/sbin",
		filepath.Join(binaries, "intercede"): "is intercede itself",
		s.dir + "/not-executable":            "permission denied",
		s.dir + "/link":                      "is intercede itself",
	} {
		t.Run(runtime, func(t *testing.T) {
			s.write(t, fmt.Sprintf("[oci_runtime]\nruntime = %q\n", runtime))
			r := intercede(t, "oci-runtime", "--config", s.config(), "--", "kill", "x")
			if r.status != cli.ExitFailure || r.stdout != "" {
				t.Errorf("%+v", r)
			}
			wantText(t, r.stderr, "intercede: the OCI runtime", runtime, want, "oci_runtime.runtime")
		})
	}
}

// A mistake in the config keeps nobody from stopping containers: that takes the default runtime.
func TestWrapperStopsWithABadConfig(t *testing.T) {
	require(t, "runc")
	for name, config := range map[string]string{
		"no TOML": "[",
		"its own": "[oci_runtime]\nruntime = 1\n",
		"others'": "[plugins.mknod]\ntimeout = 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, config)
			r := intercede(t, "oci-runtime", "--config", s.config(), "--", "--root", s.dir+"/state", "list")
			if r.status != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Under a runtime that takes the flag a signal does not make a call arrive twice.
func TestWrapperWaitsKillable(t *testing.T) {
	sdktest.RequireKernel(t, "5.19", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
	s := newSite(t, both)
	s.serve(t)
	b := s.newWrappedBundle(t, "crun", "/bin/interrupted")
	if err := goBuild("interrupted", "./testdata/interrupted"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, exec.Command("install", filepath.Join(binaries, "interrupted"), b.dir+"/rootfs/bin/interrupted"))
	wantText(t, mustRun(t, b.cmd("run", b.id)), "5000 calls, 0 made twice\n")
	wantText(t, b.spec(t), `"flags":["SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]`)
}

// The profile has the flag if the runtime takes it: the features that a runtime tells, and the real ones, which start
// with it.
func TestProfileWaitsKillable(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	fake := s.dir + "/runtime"
	features := `{"linux": {"seccomp": {"supportedFlags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}}}`
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho '"+features+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	const flag = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
	if strings.Contains(s.profile(t), flag) {
		t.Error("a profile for any runtime has the flag")
	}
	wantText(t, s.profile(t, "--runtime", fake), flag)
	eachRuntime(t, func(t *testing.T, runtime string) {
		require(t, runtime)
		b := newBundle(t, runtime, s.profile(t, "--runtime", runtime), "mknod /tmp/null c 1 3 && echo made")
		wantText(t, mustRun(t, b.cmd("run", b.id)), "made\n")
	})
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"LXC": {[]string{"--format", "lxc", "--runtime", "runc"}, cli.ExitUsage, `--runtime "runc": it is for --format oci`},
		"a relative": {[]string{"--format", "oci", "--runtime", "bin/runc"}, cli.ExitUsage,
			`--runtime "bin/runc": want a name or an absolute path`},
		"an empty one": {[]string{"--format", "oci", "--runtime", ""}, cli.ExitUsage, `--runtime ""`},
		"a missing": {[]string{"--format", "oci", "--runtime", "no-such-runtime"}, cli.ExitFailure,
			`--runtime "no-such-runtime": not installed`},
	} {
		t.Run(name, func(t *testing.T) {
			r := intercede(t, append([]string{"profile", "--config", s.config()}, test.args...)...)
			if r.status != test.status || r.stdout != "" {
				t.Errorf("%+v", r)
			}
			wantText(t, r.stderr, test.want)
		})
	}
}
