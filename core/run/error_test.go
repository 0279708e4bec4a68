package run_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestErrors(t *testing.T) {
	sdktest.RequireRoot(t)
	root, proc := smallRootfs(t), t.TempDir()
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(proc, unix.MNT_DETACH) })
	file := filepath.Join(root, "bin/sh")
	command := []string{"/bin/sh", "-c", "exit"}
	for name, test := range map[string]struct {
		options run.Options
		want    string
	}{
		"no command":        {run.Options{}, "want a command after --"},
		"NUL":               {run.Options{Args: []string{"a\x00b"}}, "NUL"},
		"rootfs missing":    {run.Options{Args: command, Rootfs: "/nosuch"}, "root filesystem: stat /nosuch: no such file"},
		"rootfs a file":     {run.Options{Args: command, Rootfs: file}, "is not a directory: unpack"},
		"rootfs the host's": {run.Options{Args: command, Rootfs: "/"}, "leave --rootfs away"},
		"rootfs unmappable": {run.Options{Args: command, Rootfs: proc}, "is on proc, a filesystem that cannot be idmapped"},
		"overlay of it": {run.Options{Args: command, Rootfs: "/proc/self", Ephemeral: true},
			"is on proc, a filesystem that cannot be idmapped"},
		"name":             {run.Options{Args: command, Name: "-x"}, "cannot be a hostname"},
		"long name":        {run.Options{Args: command, Name: strings.Repeat("x", 65)}, "cannot be a hostname"},
		"env":              {run.Options{Args: command, Env: []string{"A"}}, "NAME=VALUE"},
		"memory":           {run.Options{Args: command, Memory: -1}, "is negative"},
		"capability":       {run.Options{Args: command, CapDrop: []string{"CAP_FLY"}}, `unknown capability "CAP_FLY"`},
		"relative workdir": {run.Options{Args: command, Workdir: "tmp"}, "not an absolute path"},
		"workdir missing": {run.Options{Args: command, Workdir: "/nosuch"},
			"enter the working directory /nosuch of the container: no such file"},
		"user":             {run.Options{Args: command, User: "nosuch"}, `no user "nosuch" in the container's /etc/passwd`},
		"group":            {run.Options{Args: command, User: "0:nosuch"}, `no group "nosuch" in the container's /etc/group`},
		"user too high":    {run.Options{Args: command, User: "65536"}, "0 to 65535"},
		"host id too high": {run.Options{Args: command, HostID: 1<<32 - 10}, "leaves no room"},
		"bad filter":       {run.Options{Args: command, Filter: []unix.SockFilter{{Code: 0xffff}}}, "load the seccomp filter: invalid argument"},
		"long filter":      {run.Options{Args: command, Filter: make([]unix.SockFilter, 4097)}, "4097 instructions"},
	} {
		t.Run(name, func(t *testing.T) {
			err := startError(t, test.options)
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %q\nwant %q", err, test.want)
			}
			var command *run.CommandError
			if errors.As(err, &command) {
				t.Errorf("it is a CommandError: %v", err)
			}
		})
	}
}

func TestCommandErrors(t *testing.T) {
	root := smallRootfs(t)
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "noformat": 0o755, "private": 0o700} {
		writeFile(t, filepath.Join(root, "bin", name), "x")
		if err := os.Chmod(filepath.Join(root, "bin", name), mode); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(root, "bin", "nointerpreter"), "#!/nosuch\n")
	if err := os.Chmod(filepath.Join(root, "bin", "nointerpreter"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		command, user string
		status        int
		errno         unix.Errno
	}{
		"not in PATH":    {"nosuch", "", 127, unix.ENOENT},
		"no such path":   {"/nosuch", "", 127, unix.ENOENT},
		"below a file":   {"/bin/sh/x", "", 127, unix.ENOTDIR},
		"directory":      {"/bin", "", 126, unix.EACCES},
		"not executable": {"plain", "", 126, unix.EACCES},
		"not for user":   {"private", "1000", 126, unix.EACCES},
		"no format":      {"noformat", "", 126, unix.ENOEXEC},
		"no interpreter": {"nointerpreter", "", 127, unix.ENOENT},
	} {
		for filtered, filter := range map[string][]unix.SockFilter{"": nil, " filtered": notifyUnreserved(t)} {
			t.Run(name+filtered, func(t *testing.T) {
				err := startError(t, run.Options{Rootfs: root, Args: []string{test.command}, User: test.user, Filter: filter})
				var command *run.CommandError
				if !errors.As(err, &command) || command.Status != test.status || !errors.Is(err, test.errno) {
					t.Errorf("got %T %v, want status %d for %v", err, err, test.status, test.errno)
				}
			})
		}
	}
}
