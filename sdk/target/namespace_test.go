package target_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The link says what stat(2) of the namespace says.
func TestStatNamespace(t *testing.T) {
	for _, name := range []string{"user", "mnt", "pid", "cgroup"} {
		path := "/proc/self/ns/" + name
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		want := target.NamespaceID{Dev: uint64(st.Dev), Ino: st.Ino}
		if got, err := target.StatNamespace(path); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	if got, err := target.StatNamespace("/proc/self/exe"); err == nil {
		t.Errorf("a program: %v", got)
	}
	path := fmt.Sprintf("/proc/%d/ns/user", deadTID(t))
	if _, err := target.StatNamespace(path); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("of nobody: %v", err)
	}
}
