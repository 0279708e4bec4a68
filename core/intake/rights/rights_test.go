package rights

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPassed(t *testing.T) {
	credentials := unix.UnixCredentials(&unix.Ucred{Pid: 1})
	for name, test := range map[string]struct {
		control []byte
		want    []int
		bad     bool
	}{
		"nothing":         {},
		"three":           {control: unix.UnixRights(5, 6, 7), want: []int{5, 6, 7}},
		"two messages":    {control: append(unix.UnixRights(5), unix.UnixRights(6)...), want: []int{5, 6}},
		"beside others":   {control: append(credentials, unix.UnixRights(6)...), want: []int{6}},
		"others alone":    {control: credentials},
		"less than any":   {control: []byte{1, 2, 3}},
		"length too long": {control: append([]byte{255}, unix.UnixRights(5)[1:]...), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Passed(test.control)
			if !slices.Equal(got, test.want) || (err != nil) != test.bad {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestClose(t *testing.T) {
	fds := make([]int, 2)
	if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	Close(fds)
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("descriptor %d is open: %v", fd, err)
		}
	}
}
