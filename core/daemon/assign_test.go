package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// switchName is the annotation that switches the plugin "mknod": the test plugin of that name here.
const switchName = "security.syscalls.intercept.mknod"

// loadRules makes a config of the plugins, which are test plugins, and the rules, and loads it.
func loadRules(t *testing.T, rules string, plugins ...string) *Setup {
	t.Helper()
	sdktest.RequireRoot(t)
	text := "[broker]\norder = [\"" + strings.Join(plugins, `", "`) + "\"]\n"
	for _, name := range plugins {
		text += fmt.Sprintf("[plugins.%s]\nenabled = false\ngrant = \"manifest\"\npath = %q\n", name, testplugin.Install(t, name))
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text+rules), 0o600); err != nil {
		t.Fatal(err)
	}
	setup, problems := Load(t.Context(), path, config.Options{})
	if problems != nil {
		t.Fatal(problems)
	}
	return setup
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, setup *Setup) (*Engine, *logged) {
	t.Helper()
	log := &logged{}
	e, err := Start(t.Context(), setup, broker.State{}, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e, log
}

// attach starts a container whose getppid calls notify, and attaches it as claimed.
func attach(t *testing.T, e *Engine, claim container.Claim) *testcaller.Caller {
	t.Helper()
	c := testcaller.Start(t, 0)
	claim.PID = c.PID
	if err := e.Attach(t.Context(), c.Listener(t, unix.SYS_GETPPID), claim); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask makes a call that the test plugin answers with 42, and the kernel with 0: the caller is the first in its pid
// namespace.
func ask(t *testing.T, c *testcaller.Caller) testcaller.Result {
	t.Helper()
	return c.Call(t, unix.SYS_GETPPID, uint64(testplugin.Return), 42, 0, 0, 0, testplugin.Magic)
}

func awaitGone(t *testing.T, e *Engine, id string) {
	t.Helper()
	for end := time.Now().Add(testcaller.Timeout); len(e.Policies(id)) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("container %s stays", id)
		}
	}
}

const rules = `
[[container]]
match = { runtime = "oci", name = "build-*" }
plugins.trial.enabled = true

[[container]]
match = { peer_uid = 0, cgroup = "/*" }
plugins.errno_trial = { enabled = true, config = { refuse = "not this one" } }

[[container]]
match.annotations.team = "a"
accept_annotations = ["` + switchName + `"]
`

func TestContainersGetTheirOwn(t *testing.T) {
	e, log := start(t, loadRules(t, rules, "trial", "errno_trial", "mknod"))
	peer := uint32(0)
	annotated := func(id string, annotations map[string]string) container.Claim {
		return container.Claim{ID: id, Runtime: "run", Annotations: annotations}
	}
	returned, kernel, failed := testcaller.Result{Value: 42}, testcaller.Result{}, testcaller.Result{Value: -1, Errno: syscall.EIO}
	for _, test := range []struct {
		name    string
		claim   container.Claim
		want    testcaller.Result
		plugins []string
	}{
		{"no rule", container.Claim{ID: "none", Runtime: "oci"}, kernel, []string{}},
		{"plugin switched on", container.Claim{ID: "on", Runtime: "oci", Name: "build-1"}, returned, []string{"trial"}},
		{"other settings, which the plugin refuses", container.Claim{ID: "settings", Runtime: "lxc", PeerUID: &peer},
			failed, []string{"errno_trial"}},
		{"annotation", annotated("annotated", map[string]string{"team": "a", switchName: "true"}), returned, []string{"mknod"}},
		{"annotation that no rule accepts", annotated("unaccepted", map[string]string{switchName: "true"}), kernel, []string{}},
		{"bad annotation", annotated("bad", map[string]string{"team": "a", switchName: "2"}), kernel, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := attach(t, e, test.claim)
			if got := ask(t, c); got.Errno != test.want.Errno || got.Errno == 0 && got.Value != test.want.Value {
				t.Errorf("the caller got %+v, want %+v", got, test.want)
			}
			policies := e.Policies(test.claim.ID)
			if len(policies) != 1 || fmt.Sprint(enabled(policies[0].Effective)) != fmt.Sprint(test.plugins) {
				t.Errorf("policies %+v, want %v", policies, test.plugins)
			}
			if _, status := e.Status(); len(status) != 1 || len(status[0].Plugins) != len(test.plugins) {
				t.Errorf("status %+v, want %v", status, test.plugins)
			}
			c.Kill()
			awaitGone(t, e, test.claim.ID)
		})
	}
	if text := log.String(); strings.Count(text, `"level":"warn","container":"bad","annotation":"`+switchName+`"`) != 1 {
		t.Errorf("no warning of the bad annotation:\n%s", text)
	}
}

// Containers that are there at once keep their own, whatever is reloaded.
func TestReloadKeepsWhatContainersHave(t *testing.T) {
	e, _ := start(t, loadRules(t, rules, "trial", "errno_trial", "mknod"))
	claim := container.Claim{ID: "first", Runtime: "oci", Name: "build-1"}
	first := attach(t, e, claim)
	if err := e.Reload(t.Context(), loadRules(t, "", "trial")); err != nil {
		t.Fatal(err)
	}
	claim.ID = "second"
	second := attach(t, e, claim)
	if got := ask(t, first); got.Value != 42 {
		t.Errorf("the first got %+v, want 42", got)
	}
	if got := ask(t, second); got.Value != 0 || got.Errno != 0 {
		t.Errorf("the second got %+v, want the kernel's answer", got)
	}
	if all := e.Policies("first"); len(all) != 1 || !ruleMatched(all[0].Effective) {
		t.Errorf("the first's policy: %+v", all)
	}
}

// TestReloadKeepsPlugins has a plugin of an older config die whose binary is gone: its container has it again.
func TestReloadKeepsPlugins(t *testing.T) {
	enabled := "[[container]]\nplugins.trial.enabled = true\n"
	before := loadRules(t, enabled, "trial")
	e, _ := start(t, before)
	first := attach(t, e, container.Claim{ID: "first", Runtime: "oci"})
	if err := e.Reload(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if plugins, _ := e.Status(); len(plugins) != 1 {
		t.Fatalf("plugins of the same config twice: %+v", plugins)
	}
	if err := e.Reload(t.Context(), loadRules(t, enabled, "trial")); err != nil {
		t.Fatal(err)
	}
	plugins, _ := e.Status()
	if len(plugins) != 2 {
		t.Fatalf("plugins of two configs: %+v", plugins)
	}
	if err := os.Remove(before.Policy.Plugins[0].Path); err != nil {
		t.Fatal(err)
	}
	unix.Kill(plugins[0].PID, unix.SIGKILL)
	second := attach(t, e, container.Claim{ID: "second", Runtime: "oci"})
	if got := ask(t, second); got.Value != 42 {
		t.Errorf("the second got %+v, want 42", got)
	}
	for end := time.Now().Add(testcaller.Timeout); ask(t, first).Value != 42; {
		if time.Now().After(end) {
			t.Fatal("the first does not get its plugin back")
		}
	}
}

// TestConcurrently counts how many run at once.
func TestConcurrently(t *testing.T) {
	var calls, now, most atomic.Int64
	concurrently(100, func(i int) {
		calls.Add(int64(i))
		n := now.Add(1)
		for last := most.Load(); n > last && !most.CompareAndSwap(last, n); last = most.Load() {
		}
		runtime.Gosched()
		now.Add(-1)
	})
	if calls.Load() != 99*100/2 || most.Load() > int64(runtime.NumCPU()) {
		t.Errorf("the numbers' sum is %d, and %d ran at once", calls.Load(), most.Load())
	}
}

func TestPoliciesFindsByBeginning(t *testing.T) {
	e, _ := start(t, loadRules(t, rules, "trial", "errno_trial", "mknod"))
	for _, id := range []string{"ab", "abc1", "abc2"} {
		attach(t, e, container.Claim{ID: id, Runtime: "oci"})
	}
	for id, want := range map[string][]string{"ab": {"ab"}, "abc": {"abc1", "abc2"}, "abc1": {"abc1"}, "x": {}, "": {}} {
		t.Run(id, func(t *testing.T) {
			got := []string{}
			for _, p := range e.Policies(id) {
				got = append(got, p.Description.ID)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// The filter notifies what any container may have; one container may need less.
func TestManifestsFor(t *testing.T) {
	setup := loadRules(t, rules, "trial", "errno_trial", "mknod")
	if len(setup.Manifests) != 3 {
		t.Errorf("%d manifests, want those of all rules", len(setup.Manifests))
	}
	if _, err := filter.Program(setup.Manifests, nil); err != nil {
		t.Error(err)
	}
	manifests := setup.ManifestsFor(policy.Description{Runtime: "oci", Name: "build-1"})
	if len(manifests) != 1 || manifests[0].GetName() != "trial" {
		t.Errorf("manifests %v, want trial's", manifests)
	}
	manifests = setup.ManifestsFor(policy.Description{Runtime: "oci", ID: "x"})
	if len(manifests) != 0 {
		t.Errorf("manifests %v without a rule", manifests)
	}
}

// enabled are the names of the plugins that the container has enabled.
func enabled(e *policy.Effective) []string {
	names := []string{}
	for _, p := range e.Plugins {
		if p.Enabled {
			names = append(names, p.Name)
		}
	}
	return names
}

func ruleMatched(e *policy.Effective) bool {
	return slices.ContainsFunc(e.Rules, func(r policy.RuleOutcome) bool { return r.Matches })
}
