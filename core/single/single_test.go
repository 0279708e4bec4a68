package single

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	testplugin.Init()
	testcaller.Init()
	os.Exit(m.Run())
}

// strangers is a copy of the plugin that anybody can change, in a folder that anybody can: the launcher refuses it.
func strangers(t *testing.T) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	path := filepath.Join(t.TempDir(), wire.BinaryPrefix+"trial")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(file, self)
	if err := errors.Join(err, file.Chmod(0o777), file.Chown(1000, 1000), file.Close(), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestServes has a binary that is not root's answer a call, and leaves nothing behind.
func TestServes(t *testing.T) {
	sdktest.RequireRoot(t)
	for _, grpc := range []bool{false, true} {
		t.Setenv("TMPDIR", t.TempDir())
		p, err := Open(t.Context(), Options{Binary: strangers(t), GRPC: grpc})
		if err != nil {
			t.Fatal(err)
		}
		engine, err := p.Start(t.Context(), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		c := testcaller.Start(t, 0)
		err = engine.Attach(context.Background(), c.Listener(t, unix.SYS_GETPPID), container.Claim{ID: "c", Runtime: "run", PID: c.PID})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Call(t, unix.SYS_GETPPID, uint64(testplugin.Return), 42, 0, 0, 0, testplugin.Magic); got.Value != 42 {
			t.Errorf("gRPC %v: got %+v", grpc, got)
		}
		c.Close()
		engine.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

// TestProblems names the binary and the settings that were given, and not the files that were made of them.
func TestProblems(t *testing.T) {
	sdktest.RequireRoot(t)
	good, bad := testplugin.Install(t, "trial"), testplugin.Install(t, "bad_garbage")
	t.Setenv("TMPDIR", t.TempDir())
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"unknown setting": {Options{Binary: good, Settings: map[string]string{"colour": "red"}}, "--set: colour: unknown key"},
		"no file":         {Options{Binary: "/no/such"}, "plugin binary: open /no/such: no such file or directory"},
		"a folder":        {Options{Binary: "/"}, "plugin binary /: not a regular file"},
		"not executable":  {Options{Binary: "/etc/passwd"}, "plugin binary /etc/passwd: not executable: chmod +x"},
		"no plugin":       {Options{Binary: "/bin/true"}, "/bin/true: it does not print a manifest"},
		"bad":             {Options{Binary: bad}, bad + ": it does not print a manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), test.options)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), os.Getenv("TMPDIR")) {
				t.Errorf("got %v, want %s ...", err, test.want)
			}
		})
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestSettings(t *testing.T) {
	p := &Plugin{copied: "/plugin", Manifest: &wire.Manifest{Name: "trial", Settings: []*wire.Setting{
		{Key: "list", Type: wire.Setting_TYPE_STRING_LIST}, {Key: "n", Type: wire.Setting_TYPE_INT},
		{Key: "text", Type: wire.Setting_TYPE_STRING}, {Key: "on", Type: wire.Setting_TYPE_BOOL},
	}}}
	text, problems := p.configText(map[string]string{"list": `["a", "b"]`, "n": "7", "text": "a = \"b\"\n[broker]", "on": "true"})
	if problems != nil {
		t.Fatal(problems)
	}
	doc, problems := config.Parse(string(text), "config.toml", config.Options{})
	if problems != nil {
		t.Fatalf("%v in\n%s", problems, text)
	}
	settings, problems := doc.Settings(config.Key{"plugins", "trial", "config"}, doc.Plugin("trial").Settings, p.Manifest.Settings)
	if problems != nil {
		t.Fatal(problems)
	}
	for key, want := range map[string]string{"list": `["a","b"]`, "n": "7", "text": `"a = \"b\"\n[broker]"`, "on": "true"} {
		if got := string(settings[key]); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	for _, bad := range []string{"", "7\non = true", "x y", "[1", "7 # "} {
		if _, problems := p.configText(map[string]string{"n": bad}); len(problems) != 1 && bad != "7 # " {
			t.Errorf("%q: %v", bad, problems)
		}
	}
}
