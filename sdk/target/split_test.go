package target

import (
	"strings"
	"testing"
)

func TestSplitLast(t *testing.T) {
	for path, want := range map[string][2]string{
		"n": {".", "n"}, "n/": {".", "n/"}, "n//": {".", "n//"}, "/n": {"/", "n"}, "//n": {"//", "n"}, "a/n": {"a/", "n"}, "a//n/": {"a//", "n/"},
		"/": {"/", "."}, "//": {"/", "."}, ".": {".", "."}, "..": {".", ".."}, "a/..": {"a/", ".."}, "/a/./": {"/a/", "./"},
	} {
		if parent, name := splitLast(path); parent != want[0] || name != want[1] {
			t.Errorf("%q is %q and %q, want %q", path, parent, name, want)
		}
	}
}

// FuzzSplitLast puts the two together again; the name is one component.
func FuzzSplitLast(f *testing.F) {
	for _, path := range []string{"n", "/", "//a//b//", "..", "a/../b/.", "\xff/\n"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if path == "" {
			return
		}
		parent, name := splitLast(path)
		component := strings.TrimRight(name, "/")
		if component == "" || strings.Contains(component, "/") || parent == "" {
			t.Fatalf("%q is %q and %q", path, parent, name)
		}
		whole := parent + name
		if strings.Trim(path, "/") == "" {
			whole = strings.Repeat("/", len(path))
		} else if parent == "." {
			whole = name
		}
		if whole != path {
			t.Errorf("%q is %q and %q", path, parent, name)
		}
	})
}
