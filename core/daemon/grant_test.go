package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestNewProgramAsksForMore replaces a plugin's program by one that asks for more than is granted: the config is
// refused until that is granted, and the plugin that runs is the earlier one, also after its death.
func TestNewProgramAsksForMore(t *testing.T) {
	sdktest.RequireRoot(t)
	path, file := testplugin.Install(t, "trial"), filepath.Join(t.TempDir(), "config.toml")
	load := func(more string) (*Setup, config.Problems) {
		text := fmt.Sprintf("[plugins.trial]\npath = %q\ngrant = { host = [\"/tmp\"], host_pids = true%s }\n", path, more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(t.Context(), file, config.Options{})
	}
	setup, problems := load("")
	if problems != nil {
		t.Fatal(problems)
	}
	e, _ := start(t, setup)
	c := attach(t, e, container.Claim{ID: "first", Runtime: "oci"})
	testplugin.Upgrade(t, path, testplugin.AsksMore)

	if _, problems = load(""); len(problems) != 1 || problems[0].Line != 3 || !strings.Contains(problems[0].Message, "CAP_CHOWN") {
		t.Fatalf("problems %v, want that CAP_CHOWN is not granted", problems)
	}
	plugins, _ := e.Status()
	unix.Kill(plugins[0].PID, unix.SIGKILL)
	for ask(t, c).Value != 42 { // at its second call it is there again
	}
	if plugins, _ = e.Status(); len(plugins) != 1 || plugins[0].Version != "1" {
		t.Errorf("plugins %+v, want the earlier one alone", plugins)
	}

	if setup, problems = load(", capabilities = [\"CAP_CHOWN\"]"); problems != nil {
		t.Fatal(problems)
	}
	if err := e.Reload(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, attach(t, e, container.Claim{ID: "second", Runtime: "oci"})); got.Value != 42 {
		t.Errorf("the new one gave %+v", got)
	}
}

// TestAdoptedGrant has a plugin that the config does not have any more, but an adopted container: it starts if its
// record grants what the program asks for by now.
func TestAdoptedGrant(t *testing.T) {
	e, _ := start(t, loadRules(t, "", "other"))
	path := testplugin.Install(t, "trial")
	a := &adopter{engine: e, setup: loadRules(t, "", "other"), plugins: map[pluginKey]*sharedPlugin{}}
	var held []*sharedPlugin
	t.Cleanup(func() { e.release(held) })
	for granted, want := range map[*grant.Grant]bool{
		nil: false, grant.Everything(): true, {Powers: grant.Powers{Host: []string{"/tmp"}}}: false,
		{Powers: grant.Powers{Host: []string{"/tmp"}, HostPIDs: true}}: true,
	} {
		p := a.plugin(t.Context(), &record.Plugin{Name: "trial", Path: path, Grant: granted})
		if (p != nil) != want {
			t.Errorf("%+v: started %v, want %v", granted, p != nil, want)
		}
		if p != nil {
			held = append(held, p)
		}
	}
}
