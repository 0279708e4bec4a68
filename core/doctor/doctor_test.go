package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/mountinfo"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	run.Init()
	Init()
	os.Exit(m.Run())
}

// aloneVariable is set in a process that has a mount namespace and a folder for temporary files of its own.
const aloneVariable = "INTERCEDE_TEST_ALONE"

// alone runs the test once more in such a process: the tests of other packages mount and make files meanwhile.
func alone(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // containers of files in it are tried
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), aloneVariable+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // package syscall makes its mounts private
	output, err := cmd.CombinedOutput()
	if t.Logf("%s", output); err != nil {
		t.Error(err)
	}
}

func TestRunHere(t *testing.T) {
	sdktest.RequireRoot(t)
	sdktest.RequireKernel(t, "5.15", "intercede")
	if os.Getenv(aloneVariable) == "" {
		alone(t)
		return
	}
	before := traces(t)
	checks := Run(t.Context(), "/etc/intercede/config.toml")
	if after := traces(t); after != before {
		t.Errorf("left behind: before\n%s\nafter\n%s", before, after)
	}
	if !Usable(checks) {
		t.Error("something required is missing on a machine that runs the tests")
	}
	for _, c := range checks {
		t.Logf("%s %s: %s: %s", c.State, c.Name, c.Found, c.Means)
		if c.Name == "" || c.Found == "" || c.Means == "" {
			t.Errorf("%+v: something is not said", c)
		}
	}
}

// traces are what a probe could leave: descriptors, mounts, temporary folders and cgroups of this process.
func traces(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "intercede-doctor-*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range descriptors {
		to, _ := os.Readlink("/proc/self/fd/" + d.Name())
		if !strings.HasPrefix(to, "anon_inode:") { // the runtime's own poller
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return string(mounts) + strings.Join(append(names, left...), "\n")
}

// TestNewFeatures compares what was found out by trying with the version of the kernel.
func TestNewFeatures(t *testing.T) {
	since := map[string]string{
		"WAIT_KILLABLE_RECV": "5.19", "SYNC_WAKE_UP": "6.6", "PIDFD_THREAD": "6.9", "NS_GET_PID_FROM_PIDNS": "6.11", "setxattrat": "6.13",
	}
	for _, p := range kernelProbes {
		version, newer := since[p.name]
		if !newer {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			sdktest.RequireKernel(t, version, p.name)
			if c := p.check(t.Context()); c.State != OK {
				t.Errorf("%s: %s", c.State, c.Found)
			}
		})
	}
}

func TestChild(t *testing.T) {
	if err := inChild(t.Context(), "start", 0); err != nil {
		t.Error(err)
	}
	if err := inChild(t.Context(), "nonsense", 0); err == nil || !strings.Contains(err.Error(), "unknown trial") {
		t.Errorf("unknown trial: %v", err)
	}
}

func TestStates(t *testing.T) {
	fails := func(context.Context) (string, error) { return "", errors.New("no") }
	for name, test := range map[string]struct {
		probe probe
		want  Check
	}{
		"ok": {
			probe{purpose: "good", without: "bad", try: func(context.Context) (string, error) { return "6.1", nil }},
			Check{State: OK, Found: "6.1", Means: "good"}},
		"optional": {probe{without: "bad", try: fails}, Check{State: Degraded, Found: "no", Means: "bad"}},
		"required": {probe{required: true, without: "bad", try: fails}, Check{State: Missing, Found: "no", Means: "bad"}},
		"found but of no use": {
			probe{without: "bad", try: func(context.Context) (string, error) { return "1.0", errors.New("too old") }},
			Check{State: Degraded, Found: "1.0: too old", Means: "bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.probe.check(t.Context())
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if Usable([]Check{got}) != (test.want.State != Missing) {
				t.Errorf("usable is wrong for %s", got.State)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	for name, test := range map[string]struct {
		version      string
		major, minor int
		ok           bool
	}{
		"same":             {"5.15.0-generic", 5, 15, true},
		"newer minor":      {"1.12.1", 1, 2, true},
		"newer major":      {"2.0", 1, 5, true},
		"older minor":      {"0.18", 0, 19, false},
		"older major":      {"4.20", 5, 15, false},
		"in a sentence":    {"runc version 1.1.5+ds1", 1, 1, true},
		"nothing":          {"", 0, 0, false},
		"no version":       {"devel", 0, 0, false},
		"enormous numbers": {"99999999999999999999.1", 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := atLeast(test.version, test.major, test.minor); (err == nil) != test.ok {
				t.Errorf("%q at least %d.%d: %v", test.version, test.major, test.minor, err)
			}
		})
	}
}

func TestCgroupVersions(t *testing.T) {
	v1, v2, proc := mountinfo.Mount{Type: "cgroup"}, mountinfo.Mount{Type: "cgroup2"}, mountinfo.Mount{Type: "proc"}
	for name, test := range map[string]struct {
		mounts []mountinfo.Mount
		want   string
		ok     bool
	}{
		"v1":     {[]mountinfo.Mount{proc, v1, v1}, "v1", false},
		"v2":     {[]mountinfo.Mount{proc, v2}, "v2", true},
		"hybrid": {[]mountinfo.Mount{v1, proc, v2}, "hybrid: v1, and v2 beside it", true},
		"none":   {[]mountinfo.Mount{proc}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cgroupVersions(test.mounts)
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestLackingCapabilities(t *testing.T) {
	for name, wanted := range map[string][]string{"broker": brokerCapabilities, "plugins": pluginCapabilities} {
		t.Run(name, func(t *testing.T) {
			lacking, err := lackingCapabilities(^target.CapabilitySet(unix.CAP_SETUID), wanted)
			if err != nil || !slices.Equal(lacking, []string{"CAP_SETUID"}) {
				t.Errorf("%v, %v; want CAP_SETUID alone", lacking, err)
			}
		})
	}
}

func TestReadSysctls(t *testing.T) {
	dir := t.TempDir()
	if got := readSysctls(dir); got != "" {
		t.Errorf("without any: %q", got)
	}
	for _, name := range sysctls[:2] {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("0\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const want = "user.max_user_namespaces=0 kernel.unprivileged_userns_clone=0"
	if got := readSysctls(dir); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWrite(t *testing.T) {
	checks := []Check{{"kernel", OK, "6.1", "good"}, {"libseccomp", Missing, "older", "install it"}}
	var table, text bytes.Buffer
	if err := errors.Join(WriteTable(&table, checks), WriteJSON(&text, checks)); err != nil {
		t.Fatal(err)
	}
	const want = "ok        kernel      6.1\nmissing   libseccomp  older\n          → install it\n"
	if table.String() != want {
		t.Errorf("table:\n%s\nwant\n%s", table.String(), want)
	}
	var back []Check
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || !slices.Equal(back, checks) {
		t.Errorf("%v, %v; want %v", back, err, checks)
	}
}
