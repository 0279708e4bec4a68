package limit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLimitMemory(t *testing.T) {
	for name, test := range map[string]struct {
		version int
		files   map[string]string
	}{
		"v1":              {1, map[string]string{"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "2000"}},
		"v1 without swap": {1, map[string]string{"memory.limit_in_bytes": "1000"}},
		"v2":              {2, map[string]string{"memory.max": "1000", "memory.swap.max": "1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Group{Dir: t.TempDir()}
			for name := range test.files {
				if err := os.WriteFile(filepath.Join(g.Dir, name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.LimitMemory(test.version, 1000); err != nil {
				t.Fatal(err)
			}
			for name, want := range test.files {
				if got, err := os.ReadFile(filepath.Join(g.Dir, name)); string(got) != want || err != nil {
					t.Errorf("%s: %q, %v; want %q", name, got, err, want)
				}
			}
		})
	}
}
