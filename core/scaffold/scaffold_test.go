package scaffold_test

import (
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/scaffold"
)

// options are those of a plugin that is built against this tree.
func options(t *testing.T, syscall string) scaffold.Options {
	t.Helper()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return scaffold.Options{Name: "hello", Syscall: syscall, Language: "go", Checkout: checkout}
}

func write(t *testing.T, o scaffold.Options) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), o.Name)
	if err := scaffold.Write(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inC makes them those of a plugin in C.
func inC(o scaffold.Options) scaffold.Options {
	o.Language = "c"
	return o
}

// python makes them those of a plugin in Python.
func python(o scaffold.Options) scaffold.Options {
	o.Language, o.Checkout = "python", ""
	return o
}

// Go code is as gofmt leaves it, the handler's file a first plugin's, and no template has anything left in it.
func TestFiles(t *testing.T) {
	for name, o := range map[string]scaffold.Options{
		"any": options(t, "sethostname"), "every program's": options(t, "write"), "32 bits": options(t, "stat64"),
		"64 bits": options(t, "connect"), "python": python(options(t, "sethostname")), "every python's": python(options(t, "fcntl")),
		"python, 64 bits": python(options(t, "connect")),
		"c":               inC(options(t, "sethostname")), "every program's in C": inC(options(t, "write")),
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, o)
			err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				text := read(t, file)
				if strings.Contains(text, "{{.") || strings.Contains(text, "{{-") || !strings.HasSuffix(text, "\n") {
					t.Errorf("%s:\n%s", file, text)
				}
				if !strings.HasSuffix(file, ".go") {
					return nil
				}
				formatted, err := format.Source([]byte(text))
				if err != nil || string(formatted) != text {
					t.Errorf("%s is not as gofmt leaves it: %v\n%s", file, err, text)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if o.Language != "go" {
				return
			}
			if lines := strings.Count(read(t, filepath.Join(dir, "main.go")), "\n"); lines > 35 {
				t.Errorf("main.go has %d lines: a first plugin has 35 at most", lines)
			}
		})
	}
}

// The go.mod of a plugin says what that of the SDK does.
func TestGoVersion(t *testing.T) {
	var want string
	for line := range strings.Lines(read(t, "../../sdk/go.mod")) {
		if strings.HasPrefix(line, "go ") {
			want = line
		}
	}
	for _, file := range []string{"go.mod", "go.work"} {
		if text := read(t, filepath.Join(write(t, options(t, "sethostname")), file)); !strings.Contains(text, "\n"+want) {
			t.Errorf("%s lacks %q:\n%s", file, want, text)
		}
	}
}

// The protocol in Python is that of the example, and the contract the SDK's.
func TestPythonIsCurrent(t *testing.T) {
	dir := write(t, python(options(t, "sethostname")))
	for file, original := range map[string]string{
		"src/intercede.py": "../../examples/hostname-python/src/intercede.py", "plugin.proto": "../../sdk/proto/plugin.proto",
	} {
		if read(t, filepath.Join(dir, file)) != read(t, original) {
			t.Errorf("%s is not as %s: copy that to core/scaffold/templates/python", file, original)
		}
	}
}

// A release needs no go.work: the module requires what everybody can fetch.
func TestRelease(t *testing.T) {
	o := options(t, "sethostname")
	o.Checkout, o.Version = "", "v1.2.3"
	dir := write(t, o)
	if text := read(t, filepath.Join(dir, "go.mod")); !strings.Contains(text, "github.com/intercede/intercede/sdk v1.2.3\n") {
		t.Errorf("go.mod:\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.work")); !os.IsNotExist(err) {
		t.Errorf("go.work: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scaffold.Options)
		want   string
	}{
		"no name":                 {func(o *scaffold.Options) { o.Name = "" }, `plugin name "": want a lower-case letter`},
		"a path":                  {func(o *scaffold.Options) { o.Name = "../x" }, `plugin name "../x"`},
		"no call":                 {func(o *scaffold.Options) { o.Syscall = "" }, "no name"},
		"no such call":            {func(o *scaffold.Options) { o.Syscall = "sethostnam" }, "is it sethostname?"},
		"not to be intercepted":   {func(o *scaffold.Options) { o.Syscall = "exit_group" }, "it cannot be intercepted: it does not return"},
		"intercede's own":         {func(o *scaffold.Options) { o.Syscall = "sendmsg" }, "cannot be intercepted"},
		"a language":              {func(o *scaffold.Options) { o.Language = "perl" }, `language "perl": want one of go, python, c`},
		"Python with an SDK":      {func(o *scaffold.Options) { o.Language = "python" }, "it is for Go"},
		"Python of 32 bits":       {func(o *scaffold.Options) { *o = python(*o); o.Syscall = "stat64" }, "only 32-bit programs"},
		"no version, no sources":  {func(o *scaffold.Options) { o.Checkout = "" }, "say with --sdk"},
		"sources that are not":    {func(o *scaffold.Options) { o.Checkout = t.TempDir() }, "no sources of intercede"},
		"sources of another kind": {func(o *scaffold.Options) { o.Checkout = otherSources(t) }, "not that of its SDK"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, "sethostname")
			c.change(&o)
			parent := t.TempDir()
			err := scaffold.Write(filepath.Join(parent, "hello"), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func otherSources(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sdk"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sdk", "go.mod"), []byte("module other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is there stays as it is, a link that leads nowhere too.
func TestExisting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hello")
	if err := os.Symlink("nowhere", dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := scaffold.Write(dir, options(t, "sethostname"))
		if err == nil || !strings.Contains(err.Error(), "is there already, and nothing was changed") {
			t.Errorf("error %v", err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "mine"), 0o755); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
		if err := os.Remove(filepath.Join(dir, "mine")); err != nil {
			t.Fatal(err)
		}
	}
}

// What of a call depends on who can make it.
func TestCallers(t *testing.T) {
	for syscall, want := range map[string]struct{ script, handler string }{
		"sethostname": {"\tsys sethostname = EPERM errno refused\n", ""},
		"write":       {"\tsys write 4242 = EPERM errno refused\n", "Value: 4242"},
		"stat64":      {"\nabi 32\n", ""},
		"connect":     {"\tsys connect = EPERM errno refused\n", "sdk.CompatContinue"},
	} {
		t.Run(syscall, func(t *testing.T) {
			dir := write(t, options(t, syscall))
			if text := read(t, filepath.Join(dir, "testdata", "calls.script")); !strings.Contains(text, want.script) {
				t.Errorf("%q is not in\n%s", want.script, text)
			}
			if text := read(t, filepath.Join(dir, "main.go")); !strings.Contains(text, want.handler) {
				t.Errorf("%q is not in\n%s", want.handler, text)
			}
		})
	}
}
