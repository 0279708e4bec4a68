package target_test

import (
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// TestCloseTwice has the numbers of the descriptors that the first Close released used again before the second.
func TestCloseTwice(t *testing.T) {
	c, _, parked := park(t)
	installShell(t, c)
	for name, open := range map[string]func() (closed func(), err error){
		"Target": func() (func(), error) {
			opened, err := target.Open(parked.TID())
			if err == nil {
				_, err = opened.Place()
			}
			return func() { opened.Close() }, err
		},
		"Process": func() (func(), error) {
			process, err := parked.Start(t.Context(), target.Program{Paths: []string{"/bin/busybox"}, Args: []string{"true"}, Output: 2})
			return func() { process.Close() }, err
		},
		"JoinCgroups": func() (func(), error) { return inCgroup(t, newCgroup(t, unified)).JoinCgroups(&target.Steps{}) },
	} {
		t.Run(name, func(t *testing.T) {
			closeIt, err := open()
			if err != nil {
				t.Fatal(err)
			}
			closeIt()
			var strangers []*os.File
			for range 16 {
				stranger, err := os.Open("/dev/null")
				if err != nil {
					t.Fatal(err)
				}
				defer stranger.Close()
				strangers = append(strangers, stranger)
			}
			closeIt()
			for _, stranger := range strangers {
				if _, err := unix.FcntlInt(stranger.Fd(), unix.F_GETFD, 0); err != nil {
					t.Errorf("descriptor %d was closed: %v", stranger.Fd(), err)
				}
			}
		})
	}
}
