package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"
)

// TestRunPrograms has programs of every day do in a container what they are refused without interception.
func TestRunPrograms(t *testing.T) {
	require(t, "tar", "cpio", "getfattr", "chrt", "nice")
	s := newSite(t, everySetting+"[plugins.setxattr.config]\nread = true\n")
	layer := opaqueLayer(t, s.dir)
	for _, test := range []struct{ name, script, want string }{
		{"tar", `mkdir in out; mknod -m 640 in/null c 1 3; tar cf a.tar in; tar xf a.tar -C out; stat -c '%F %t:%T %a' out/in/null`,
			"character special file 1:3 640\n"},
		{"cpio", `mkdir in out; mknod -m 640 in/zero c 1 5; find in | cpio -o --quiet >a.cpio; ` +
			`cd out; cpio -id --quiet <../a.cpio; stat -c '%F %t:%T %a' in/zero`,
			"character special file 1:5 640\n"},
		{"an image's layer", `tar --xattrs --xattrs-include='trusted.*' -xf ` + layer +
			`; getfattr -n trusted.overlay.opaque --only-values dir`, "y"},
		{"chrt", `chrt -f 10 chrt -p 0 | grep -o 'SCHED_FIFO'; chrt -f 10 chrt -p 0 | grep -o 'priority: 10'`, "SCHED_FIFO\npriority: 10\n"},
		{"nice", `nice -n $((-5 - $(nice))) nice`, "-5\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := intercede(t, "run", "--config", s.config(), "--memory", "67108864", "--", "sh", "-ec",
				`cd "$(mktemp -d)"; `+test.script)
			if r.status != 0 || r.stdout != test.want {
				t.Errorf("status %d, %q, want %q: %s", r.status, r.stdout, test.want, r.stderr)
			}
		})
	}
}

// opaqueLayer is the archive of an image's layer with an opaque directory, where the container sees it too.
func opaqueLayer(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "layer.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := tar.NewWriter(file)
	err = w.WriteHeader(&tar.Header{
		Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
