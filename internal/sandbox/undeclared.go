package sandbox

import (
	"os"
	"slices"

	"github.com/intercede/intercede/internal/wire"
)

// formerlyOrdinary are system calls that needed no declaration before manifests had Uses.
var formerlyOrdinary = []string{
	"pidfd_getfd", "statmount", "listmount", "listns", "mount", "umount2", "pivot_root", "open_tree", "open_tree_attr", "move_mount",
	"fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid",
	"execve", "execveat", "clone", "clone3", "unshare", "setns", "socket", "ioctl",
}

// usesOf is what the plugin uses: all that was ordinary once, if it does not say.
func usesOf(plugin Plugin) *wire.Uses {
	if plugin.Uses != nil {
		return plugin.Uses
	}
	names := formerlyOrdinary
	if slices.Contains(plugin.Capabilities, "CAP_BPF") {
		names = append(slices.Clone(names), "bpf")
	}
	return &wire.Uses{Syscalls: names, Devices: []string{"c *:* rwm", "b *:* rwm"}, HostPids: true}
}

// makeHostSocketDir makes the folder in the host's folder for temporary files, which a plugin that does not say what it
// uses still sees.
func (p *Process) makeHostSocketDir(id int) (err error) {
	if p.socketDir, err = os.MkdirTemp("", "intercede-"); err != nil {
		return err
	}
	if err := os.Chown(p.socketDir, id, id); err != nil {
		return err
	}
	p.sockets, err = os.Open(p.socketDir)
	return err
}

func (p *Process) removeHostSocketDir() {
	if p.socketDir != "" && p.socketDir != socketDir {
		os.RemoveAll(p.socketDir)
	}
}
