package run_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
)

const fullSet = uint64(1)<<(unix.CAP_LAST_CAP+1) - 1

func TestCapabilities(t *testing.T) {
	for name, test := range map[string]struct {
		drop                []string
		user                string
		bounding, effective uint64
	}{
		"root": {nil, "", fullSet, fullSet},
		"dropped": {[]string{"CAP_MKNOD", "sys_admin", "Cap_Sys_Nice"}, "", without(unix.CAP_MKNOD, unix.CAP_SYS_ADMIN, unix.CAP_SYS_NICE),
			without(unix.CAP_MKNOD, unix.CAP_SYS_ADMIN, unix.CAP_SYS_NICE)},
		"all dropped":   {[]string{"ALL"}, "", 0, 0},
		"ordinary user": {nil, "1234", fullSet, 0},
		"both":          {[]string{"mknod"}, "1234:5", without(unix.CAP_MKNOD), 0},
	} {
		for filtered, filter := range map[string][]unix.SockFilter{"": nil, " filtered": allowAll()} {
			t.Run(name+filtered, func(t *testing.T) {
				text := output(t, run.Options{Args: []string{"grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status"},
					CapDrop: test.drop, User: test.user, Filter: filter})
				want := fmt.Sprintf("CapInh: %016x CapPrm: %016x CapEff: %016x CapBnd: %016x CapAmb: %016x NoNewPrivs: 0",
					0, test.effective, test.effective, test.bounding, 0)
				if got := strings.Join(strings.Fields(text), " "); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}
}

func without(capabilities ...int) uint64 {
	set := fullSet
	for _, capability := range capabilities {
		set &^= 1 << capability
	}
	return set
}

func TestUser(t *testing.T) {
	root := smallRootfs(t)
	for path, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\nbroken\n",
		"etc/group":  "root:x:0:\nann:x:1001:\nwheel:x:10:root,ann\naudio:x:11:ann\nvideo:x:12:bob\n",
	} {
		writeFile(t, filepath.Join(root, path), text)
	}
	for spec, want := range map[string]string{
		"":           "0 0 0 10 /root",
		"root":       "0 0 0 10 /root",
		"ann":        "1000 1001 1001 10 11 /home/ann",
		"1000":       "1000 1001 1001 10 11 /home/ann",
		"ann:video":  "1000 12 12 /home/ann",
		"ann:77":     "1000 77 77 /home/ann",
		"4000":       "4000 0 0 /",
		"4000:wheel": "4000 10 10 /",
	} {
		t.Run(spec, func(t *testing.T) {
			text := output(t, run.Options{Rootfs: root, User: spec, Args: shell("id -u; id -g; id -G; echo $HOME")})
			if got := strings.Join(strings.Fields(text), " "); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSetUserIDProgramsWork(t *testing.T) {
	root := smallRootfs(t)
	path := filepath.Join(root, "bin/id")
	if err := unix.Chmod(path, 0o4755); err != nil {
		t.Fatal(err)
	}
	if got := output(t, run.Options{Rootfs: root, User: "1000", Args: []string{"id", "-u"}, Filter: allowAll()}); got != "0\n" {
		t.Errorf("effective uid %q", got)
	}
}
