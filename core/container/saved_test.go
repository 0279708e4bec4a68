package container

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

// saveAndRead has the container's record go through JSON, as between two brokers.
func saveAndRead(t *testing.T, c *Container) Saved {
	t.Helper()
	text, err := json.Marshal(c.Save())
	if err != nil {
		t.Fatal(err)
	}
	var saved Saved
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	return saved
}

func duplicate(t *testing.T, file *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "user namespace")
}

func TestRestore(t *testing.T) {
	caller := testcaller.Start(t, 0)
	peer := uint32(0)
	for name, claim := range map[string]Claim{
		"oci": {ID: "box", Runtime: "oci", Annotations: map[string]string{"a": "b"}, PeerUID: &peer, PID: caller.PID},
		"lxc": {Runtime: "lxc", Cookie: "c", PID: caller.PID},
	} {
		t.Run(name, func(t *testing.T) {
			c := inspectContainer(t, claim)
			saved := saveAndRead(t, c)
			restored, err := Restore(saved, duplicate(t, c.Namespace()))
			if err != nil {
				t.Fatal(err)
			}
			defer restored.Close()
			if !protobuf.Equal(restored.Wire(), c.Wire()) {
				t.Errorf("restored %v, want %v", restored.Wire(), c.Wire())
			}
			if restored.Key() != c.Key() || restored.ID != c.ID || restored.Cookie != c.Cookie || restored.UserNamespace != c.UserNamespace {
				t.Errorf("restored %+v, want %+v", restored, c)
			}
			if !saved.Alive() {
				t.Error("the first process has ended, it says")
			}
		})
	}
}

func TestRestoreOther(t *testing.T) {
	one := inspectContainer(t, Claim{PID: testcaller.Start(t, 0).PID})
	ended := testcaller.Start(t, 0)
	other := inspectContainer(t, Claim{PID: ended.PID})
	namespace := duplicate(t, one.Namespace())
	defer namespace.Close()
	saved := saveAndRead(t, other)
	if _, err := Restore(saved, namespace); !errors.Is(err, ErrOther) {
		t.Errorf("with another's user namespace: %v, want ErrOther", err)
	}
	ended.Kill()
	saved.InitPID = 1 // which another process has
	if saved.Alive() {
		t.Error("another process counts as the first")
	}
}
