package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// UserID is the user and group that the plugin's process has: no account has it and, unless two of 10^8 hashes are the
// same, no other plugin. It lies between the IDs that containers and domain accounts get and 2^31.
func UserID(name string) int {
	hash := fnv.New32a()
	io.WriteString(hash, name)
	return 2_000_200_000 + int(hash.Sum32()%100_000_000)
}

// command is what becomes the plugin with these restrictions, see Init. It is killed if ctx ends.
func command(ctx context.Context, r restrictions, binary *os.File) (*exec.Cmd, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{sandboxName, string(text)}
	cmd.Env = append([]string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)), // it does not see the limit that its cgroups have
	}, pause.Environment()...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{binary}
	// No network, and none of the abstract sockets, System V objects and names of the host.
	flags := uintptr(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS)
	if !r.HostPIDs {
		flags |= unix.CLONE_NEWPID
	}
	// A signal to the daemon's process group ends the daemon, which ends its plugins when no call needs them any more.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Setpgid: true}
	return cmd, nil
}
