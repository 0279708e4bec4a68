package container

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	protobuf "google.golang.org/protobuf/proto"
)

func TestParseIDMap(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []*wire.IDMapping // nil: an error
	}{
		"one":         {"         0     100000      65536\n", []*wire.IDMapping{{Outside: 100000, Length: 65536}}},
		"two":         {"0 1 2\n3 4 5\n", []*wire.IDMapping{{Outside: 1, Length: 2}, {Inside: 3, Outside: 4, Length: 5}}},
		"all":         {"0 0 4294967295\n", []*wire.IDMapping{{Length: 4294967295}}},
		"none":        {"", []*wire.IDMapping{}},
		"two numbers": {"0 1\n", nil},
		"too large":   {"0 1 4294967296\n", nil},
		"negative":    {"0 -1 1\n", nil},
		"a word":      {"0 x 1\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseIDMap([]byte(test.text))
			if (err != nil) != (test.want == nil) || len(got) != len(test.want) {
				t.Fatalf("got %v, %v", got, err)
			}
			for i := range got {
				if !protobuf.Equal(got[i], test.want[i]) {
					t.Errorf("got %v", got)
				}
			}
		})
	}
}

func TestParseCgroups(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want map[string]string // nil: an error
	}{
		"version 2":        {"0::/user.slice\n", map[string]string{"": "/user.slice"}},
		"hybrid":           {"4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/\n", map[string]string{"cpu,cpuacct": "/a", "name=systemd": "/b", "": "/"}},
		"colon in a path":  {"0::/a:b:c\n", map[string]string{"": "/a:b:c"}},
		"spaces in a path": {"0::/a b \n", map[string]string{"": "/a b "}},
		"removed":          {"0::/a (deleted)\n", map[string]string{"": "/a (deleted)"}},
		"none":             {"", map[string]string{}},
		"two fields":       {"0:/a\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCgroups([]byte(test.text))
			if (err != nil) != (test.want == nil) || !maps.Equal(got, test.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestLongCgroup has a path as long as the kernel allows.
func TestLongCgroup(t *testing.T) {
	path := "/" + strings.Repeat("x", 100_000)
	file := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(file, []byte("0::"+path+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readCgroups(file); err != nil || got[""] != path {
		t.Errorf("%d bytes, %v", len(got[""]), err)
	}
}

func FuzzParseCgroups(f *testing.F) {
	f.Add([]byte("4:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/\n"))
	f.Add([]byte("0:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseCgroups(text)
		if err != nil {
			return
		}
		for controllers, path := range got {
			if !strings.Contains(string(text), ":"+controllers+":"+path) {
				t.Errorf("%q is not in %q", controllers+":"+path, text)
			}
		}
	})
}

func FuzzParseIDMap(f *testing.F) {
	f.Add([]byte("         0     100000      65536\n"))
	f.Add([]byte("0 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseIDMap(text)
		if err == nil && len(got) > len(text) {
			t.Errorf("%d mappings in %q", len(got), text)
		}
	})
}
