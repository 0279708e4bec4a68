package rights

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testcaller.Init()
	os.Exit(m.Run())
}

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

func TestRequireListener(t *testing.T) {
	listener := testcaller.Start(t, 0).Listener(t, unix.SYS_GETPPID)
	defer listener.Close()
	if err := RequireListener(int(listener.Fd())); err != nil {
		t.Errorf("a listener: %v", err)
	}
	file, err := os.CreateTemp(t.TempDir(), "anon_inode:seccomp notify")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := RequireListener(int(file.Fd())); !errors.Is(err, ErrNoListener) {
		t.Errorf("a file: %v", err)
	}
	if err := RequireListener(-1); err == nil {
		t.Error("what is not open is taken")
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
