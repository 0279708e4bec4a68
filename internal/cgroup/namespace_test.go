package cgroup

import "testing"

func TestRootOf(t *testing.T) {
	for _, test := range []struct{ own, seen, path, root string }{
		{"/a/b", "/../../a/b", "/c/d", "/c/d"},          // nothing in common
		{"/a/b", "/../../a/b", "/c/d/e/f", "/c/d"},      // the process has moved down
		{"/a/b", "/../../../a/b", "/c/d/e/f", "/c/d/e"}, // a deeper root
		{"/a/b", "/../b", "/a/d/e", "/a/d"},             // side by side
		{"/a/b", "/..", "/a/b/c/d", "/a/b/c"},           // the root is below this thread's cgroup
		{"/a/b", "/", "/a/b/c", "/a/b"},                 // it is this thread's own
		{"/a/b", "/b", "/a/c", "/a"},                    // or above
		{"/", "/..", "/c/d", "/c"},
		{"/", "/../..", "/c", ""},               // the process is outside
		{"/a/b", "/a/b", "/c", ""},              // the root of all: no namespace of its own
		{"/a/b", "/../b", "/x/d", ""},           // the process is elsewhere
		{"/a/b", "/../x", "/a/d", ""},           // not this thread's cgroup
		{"/a/b", "/../../a/b", "/../c/d/e", ""}, // outside of this process's own namespace
		{"", "", "/c", ""},                      // a hierarchy that is not there
	} {
		root, ok := rootOf(test.own, test.seen, test.path)
		if root != test.root || ok != (test.root != "") {
			t.Errorf("%s, seen as %s, with a process in %s: %q %v, want %q", test.own, test.seen, test.path, root, ok, test.root)
		}
	}
}
