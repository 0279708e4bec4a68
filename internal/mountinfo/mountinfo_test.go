package mountinfo

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	deep := strings.Repeat("/"+strings.Repeat("d", 250), 300) // the kernel shows such a line of mountinfo whole
	for name, test := range map[string]struct {
		line string
		want Mount // none: the zero Mount
	}{
		"escapes": {`36 35 98:0 /a\040b /mnt/c\134d rw,noatime master:1 - ext4 /dev/root rw,errors=continue`,
			Mount{"/a b", `/mnt/c\d`, "ext4", []string{"rw", "errors=continue"}}},
		"no octal number":  {`36 35 98:0 /a\9 /b\400\1 rw - ext4 none rw`, Mount{`/a\9`, `/b\400\1`, "ext4", []string{"rw"}}},
		"no source":        {"36 35 0:9 / /mnt rw shared:1 - tmpfs  rw,mode=755", Mount{"/", "/mnt", "tmpfs", []string{"rw", "mode=755"}}},
		"a source - - rw":  {`36 35 0:9 / /mnt rw - tmpfs -\040-\040rw ro`, Mount{"/", "/mnt", "tmpfs", []string{"ro"}}},
		"deep":             {"36 35 0:9 / " + deep + " rw - tmpfs none rw", Mount{"/", deep, "tmpfs", []string{"rw"}}},
		"short":            {"36 35 98:0 / /mnt rw", Mount{}},
		"short at the end": {"36 35 98:0 / /mnt rw - ext4 none", Mount{}},
		"no mount":         {"cgroup2 - cgroup2", Mount{}},
		"no mount point":   {"36 35 98:0 /  rw - ext4 none rw", Mount{}},
		"empty":            {"", Mount{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse("1 1 0:1 / / rw - rootfs none rw\n"+test.line+"\n2 1 0:2 / /last rw - proc none rw\n", "")
			if len(got) == 0 || got[len(got)-1].Point != "/last" {
				t.Fatalf("the lines around it are lost: %v", got)
			}
			var found Mount
			if len(got) == 3 {
				found = got[1]
			}
			if !reflect.DeepEqual(found, test.want) {
				t.Errorf("got %+v, want %+v", found, test.want)
			}
		})
	}
}

func TestOwn(t *testing.T) {
	mounts, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Point == "/proc" && m.Type == "proc" {
			return
		}
	}
	t.Errorf("no /proc in %+v", mounts)
}

func TestWithin(t *testing.T) {
	for paths, want := range map[[2]string]bool{
		{"/a", "/"}: true, {"/a", "/a"}: true, {"/a/b", "/a"}: true, {"/", "/"}: true, {"/ab", "/a"}: false, {"/", "/a"}: false,
	} {
		if Within(paths[0], paths[1]) != want {
			t.Errorf("%q within %q: want %v", paths[0], paths[1], want)
		}
	}
}

// TestParseOf leaves out other types, whatever else of them has the name.
func TestParseOf(t *testing.T) {
	got := parse(`1 1 0:1 / / rw - rootfs cgroup rw
2 1 0:2 /cgroup /sys\040-\040cgroup rw shared:1 - tmpfs cgroup2 rw
3 1 0:3 /a /one rw - cgroup cgroup rw,memory
4 1 0:4 /b /two rw master:2 - cgroup2 none rw
`, "cgroup")
	want := []Mount{{"/a", "/one", "cgroup", []string{"rw", "memory"}}, {"/b", "/two", "cgroup2", []string{"rw"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
