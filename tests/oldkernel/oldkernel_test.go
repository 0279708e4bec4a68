package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// TestMain is oldkernel itself where it has arguments of it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "5.") {
		main()
	}
	if os.Getenv(require.KernelEnv) != "" {
		os.Exit(m.Run())
	}
	os.Exit(stage.Main(m, stage.Kinds{}))
}

// TestExecute looks at features from within, and whether what they are a part of works.
func TestExecute(t *testing.T) {
	require.Root(t)
	output, err := exec.Command("/proc/self/exe", "5.15", "/proc/self/exe", "-test.v", "-test.run=^TestWithin$").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}

func TestWithin(t *testing.T) {
	if os.Getenv(require.KernelEnv) != "5.15" {
		return // TestExecute runs it
	}
	if _, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_THREAD); err != unix.EINVAL {
		t.Errorf("pidfd_open with PIDFD_THREAD: %v", err)
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Error(err)
	}
	if _, err := linux.TranslatePID(fd, 1); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("NS_GET_PID_FROM_PIDNS: %v", err)
	}
	if _, err := unix.FcntlInt(0, unix.F_DUPFD_QUERY, 0); err != unix.EINVAL {
		t.Errorf("F_DUPFD_QUERY: %v", err)
	}
	if err := unix.MountSetattr(-1, "x", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != unix.EBADF {
		t.Errorf("mount_setattr: %v", err)
	}
	if err := unix.CloseRange(1<<20, 1<<20, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Errorf("close_range: %v", err)
	}
	t.Run("newer", func(t *testing.T) {
		require.Kernel(t, "5.16", "futex_waitv")
		t.Error("it is not skipped")
	})
	require.Kernel(t, "5.15", "process_mrelease")
}

// TestNewestCalls looks at the last system call of a kernel, and the first of the next one, for all architectures.
func TestNewestCalls(t *testing.T) {
	const i386 = unix.AUDIT_ARCH_I386
	for _, test := range []struct {
		version string
		arch    uint32
		nr      int32
		there   bool
	}{
		{"5.10", auditArch, 440, true}, {"5.10", auditArch, 441, false}, {"5.10", i386, 442, false},
		{"5.15", auditArch, 448, true}, {"5.15", auditArch, 449, false}, {"5.15", i386, 449, false},
		{"6.1", auditArch, 450, true}, {"6.1", i386, 451, false}, {"6.12", auditArch, 463, false},
		{"5.10", auditArch, -1, true}, {"5.10", auditArch, x32 + 500, true},
		{"7.0", auditArch, 100000, true},
	} {
		filter, err := filterProgram(test.version)
		if err != nil {
			t.Fatal(err)
		}
		const notThere = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		want := notThere
		if test.there {
			want = unix.SECCOMP_RET_ALLOW
		}
		if got := cbpftest.New(t, filter).Run(test.arch, test.nr, [6]uint64{}); got != want {
			t.Errorf("%+v: action %#x", test, got)
		}
	}
	if _, err := filterProgram("six"); err == nil {
		t.Error(`"six" is a version`)
	}
}
