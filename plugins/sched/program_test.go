package sched

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// install copies a program of the host with the libraries that it is linked with.
func install(t *testing.T, c *sdktest.Container, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		sdktest.Lacking(t, "needs %s", name)
	}
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
		content, err := os.ReadFile(library)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(c.Rootfs(), library)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c.Install(t, program)
}

// TestPrograms are those of util-linux and coreutils.
func TestPrograms(t *testing.T) {
	realRoot := sdktest.NewContainer(t, nil, sdktest.WithRealRoot())
	intercepted := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{
		"policies": []string{"other", "batch", "idle", "fifo", "rr", "deadline"},
		"min_nice": -10,
	}))
	for _, c := range []*sdktest.Container{intercepted, realRoot} {
		for _, name := range []string{"chrt", "nice", "renice"} {
			install(t, c, name)
		}
	}
	// Process 1 starts all programs: what changes it comes last, in the order in which it does not show in others.
	for _, test := range []struct {
		name, command string
		want          string // in its output
	}{
		{"fifo", "chrt -f 42 /bin/chrt -p 0", "SCHED_FIFO"},
		{"fifo, priority", "chrt -f 42 /bin/chrt -p 0", "priority: 42"},
		{"rr", "chrt -r 7 /bin/chrt -p 0", "SCHED_RR"},
		{"reset on fork", "chrt -R -f 7 /bin/chrt -p 0", "SCHED_FIFO|SCHED_RESET_ON_FORK"},
		{"batch", "chrt -b 0 /bin/chrt -p 0", "SCHED_BATCH"},
		{"idle", "chrt -i 0 /bin/chrt -p 0", "SCHED_IDLE"},
		{"idle and back", "chrt -i 0 /bin/chrt -o 0 /bin/chrt -p 0", "SCHED_OTHER"},
		{
			"deadline", "chrt -d -T 1000000 -D 10000000 -P 10000000 0 /bin/chrt -p 0",
			"runtime/deadline/period parameters: 1000000/10000000/10000000",
		},
		{"nice", "nice -n -7 /bin/nice", "-7"},
		{"of another", "chrt -v -r -p 9 1", "SCHED_RR"},
		{"renice", "renice -n -3 -p 1", "new priority -3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			words := strings.Fields(test.command)
			got := intercepted.Run(t, "/bin/"+words[0], words[1:]...)
			want := realRoot.Run(t, "/bin/"+words[0], words[1:]...)
			if !strings.Contains(want.Stdout, test.want) {
				t.Errorf("real root gets %q%q, want %q", want.Stdout, want.Stderr, test.want)
			}
			if !strings.Contains(got.Stdout, test.want) {
				t.Errorf("the caller gets %q%q, want %q", got.Stdout, got.Stderr, test.want)
			}
		})
	}
}
