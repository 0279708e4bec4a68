package linux

import (
	"errors"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func TestOnThread(t *testing.T) {
	for range 20 {
		own := 0
		OnThread(func() { own = unix.Gettid() })
		if own == unix.Getpid() || own == 0 {
			t.Fatalf("it ran on thread %d of process %d", own, unix.Getpid())
		}
	}
	OnThread(runtime.Goexit)
}

// The first thread may be the one that the goroutine is started on.
func TestOnThreadFromFirst(t *testing.T) {
	ran := make(chan int, 100)
	for range cap(ran) {
		go OnThread(func() { ran <- unix.Gettid() })
	}
	for range cap(ran) {
		if thread := <-ran; thread == unix.Getpid() {
			t.Error("it ran on the first thread")
		}
	}
}

// What is set is set for one thread and stays there.
func TestThreadIDs(t *testing.T) {
	require.Root(t)
	OnThread(func() {
		if err := errors.Join(SetThreadGroups([]uint32{7, 8}), SetThreadGID(9), SetThreadUID(10)); err != nil {
			t.Error(err)
		}
		uid, euid, suid := unix.Getresuid()
		gid, egid, sgid := unix.Getresgid()
		groups, err := unix.Getgroups()
		if uid != 10 || euid != 10 || suid != 10 || gid != 9 || egid != 9 || sgid != 9 || !slices.Equal(groups, []int{7, 8}) || err != nil {
			t.Errorf("user ids %d %d %d, group ids %d %d %d, groups %v, %v", uid, euid, suid, gid, egid, sgid, groups, err)
		}
		for what, err := range map[string]error{"groups": SetThreadGroups(nil), "gid": SetThreadGID(0), "uid": SetThreadUID(0)} {
			if !errors.Is(err, unix.EPERM) {
				t.Errorf("%s without the capability: %v", what, err)
			}
		}
	})
	OnThread(func() {
		if err := SetThreadGroups(nil); err != nil {
			t.Error(err)
		}
		if groups, err := unix.Getgroups(); len(groups) != 0 || err != nil {
			t.Errorf("groups %v, %v", groups, err)
		}
		if uid := unix.Geteuid(); uid != 0 {
			t.Errorf("another thread has user id %d", uid)
		}
	})
}

func TestThreadFilesystemIDs(t *testing.T) {
	require.Root(t)
	OnThread(func() {
		for _, ids := range [][2]uint32{{10, 9}, {10, 9}, {0, 0}} {
			if err := SetThreadFilesystemIDs(ids[0], ids[1]); err != nil {
				t.Error(err)
			}
			uid, err1 := unix.SetfsuidRetUid(-1)
			gid, err2 := unix.SetfsgidRetGid(-1)
			if uid != int(ids[0]) || gid != int(ids[1]) || err1 != nil || err2 != nil {
				t.Errorf("%d:%d, %v, %v; want %v", uid, gid, err1, err2, ids)
			}
		}
		if err := SetThreadUID(10); err != nil {
			t.Error(err)
		}
		if err := SetThreadFilesystemIDs(0, 0); err == nil {
			t.Error("the ids are those of root, without a capability")
		}
	})
}

func TestThreadCapabilities(t *testing.T) {
	require.Root(t)
	OnThread(func() {
		before, err := ThreadCapabilities()
		if err != nil {
			t.Fatal(err)
		}
		// One of the low half and one of the high half.
		want := CapabilitySets{Effective: 1 << unix.CAP_MKNOD, Permitted: 1<<unix.CAP_MKNOD | 1<<unix.CAP_BPF, Inheritable: 1 << unix.CAP_BPF}
		if before.Permitted&want.Permitted != want.Permitted {
			require.Lacking(t, "needs CAP_MKNOD and CAP_BPF")
		}
		if err := SetThreadCapabilities(want); err != nil {
			t.Error(err)
		}
		if got, err := ThreadCapabilities(); got != want || err != nil {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		if err := SetThreadCapabilities(before); !errors.Is(err, unix.EPERM) {
			t.Errorf("more than is permitted: %v", err)
		}
	})
}

func TestDropBounding(t *testing.T) {
	require.Root(t)
	OnThread(func() {
		before, err := DropBounding(0)
		if err != nil || before == 0 {
			t.Fatalf("%#x, %v", before, err)
		}
		drop := uint64(1<<unix.CAP_MKNOD | 1<<unix.CAP_BPF | 1<<63)
		for range 2 {
			if left, err := DropBounding(drop); left != before&^drop || err != nil {
				t.Errorf("%#x, %v; want %#x", left, err, before&^drop)
			}
		}
		if left, err := DropBounding(^uint64(0)); left != 0 || err != nil {
			t.Errorf("all: %#x, %v", left, err)
		}
	})
	OnThread(func() {
		if err := SetThreadCapabilities(CapabilitySets{}); err != nil {
			t.Error(err)
		}
		if _, err := DropBounding(1); !errors.Is(err, unix.EPERM) {
			t.Errorf("without CAP_SETPCAP: %v", err)
		}
	})
}

func TestTranslatePID(t *testing.T) {
	require.Kernel(t, "6.11", "NS_GET_PID_FROM_PIDNS")
	ns, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ns)
	if got, err := TranslatePID(ns, unix.Getpid()); got != unix.Getpid() || err != nil {
		t.Errorf("got %d, %v; want %d", got, err, unix.Getpid())
	}
	if got, err := PIDIn(ns, unix.Getpid()); got != unix.Getpid() || err != nil {
		t.Errorf("got %d, %v; want %d", got, err, unix.Getpid())
	}
	for _, translate := range []func(ns, tid int) (int, error){TranslatePID, PIDIn} {
		if _, err := translate(ns, 1<<30); !errors.Is(err, unix.ESRCH) {
			t.Errorf("a pid that is none: %v", err)
		}
	}
}

// A signal that comes meanwhile is taken afterwards.
func TestBlockSignals(t *testing.T) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, unix.SIGUSR1)
	defer signal.Stop(came)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := BlockSignals()
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGUSR1)
	pending, readErr := os.ReadFile("/proc/thread-self/status")
	if err := errors.Join(err, readErr, RestoreSignals(before)); err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^SigPnd:\s([0-9a-f]+)$`).FindSubmatch(pending)
	if set, err := strconv.ParseUint(string(match[1]), 16, 64); set&(1<<(unix.SIGUSR1-1)) == 0 || err != nil {
		t.Errorf("SIGUSR1 is not pending: %s, %v", match[1], err)
	}
	<-came
}
