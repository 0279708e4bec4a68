package wire_test

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// manifest is a good one that uses so much.
func manifest(uses *wire.Uses) *wire.Manifest {
	return &wire.Manifest{
		Name: "trial", Version: "1", Syscalls: []*wire.Syscall{{Name: "getppid"}}, Uses: uses,
		OnFailure: &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}},
	}
}

func TestCheckUses(t *testing.T) {
	if err := wire.CheckManifest(manifest(&wire.Uses{
		Syscalls: []string{"mount", "bpf", "execve", "setresuid", "clone"},
		Host:     []string{"/sys/fs/cgroup", "/proc/meminfo", "/proc/sys/kernel", "/run"},
		Devices:  []string{"c *:* m", "b 7:* rw"},
		HostPids: true,
	})); err != nil {
		t.Error(err)
	}
	for want, uses := range map[string]*wire.Uses{
		`system call "read": there is none of that name, or it needs no declaration: want one of acct, `: {Syscalls: []string{"read"}},
		`system call "mont"`:                  {Syscalls: []string{"mount", "mont"}},
		`path "sys" of the host: want an abs`: {Host: []string{"sys"}},
		`path "/sys/../etc" of the host`:      {Host: []string{"/sys/../etc"}},
		`path "/sys/" of the host`:            {Host: []string{"/sys/"}},
		`path "/" of the host: the process`:   {Host: []string{"/"}},
		`path "/proc/1/root" of the host`:     {Host: []string{"/proc/1/root"}},
		`path "/proc/self" of the host`:       {Host: []string{"/proc/self"}},
		`path "/intercede/x" of the host`:     {Host: []string{wire.OwnDir + "/x"}},
		`device rule "c *:*"`:                 {Devices: []string{"c *:*"}},
	} {
		if err := wire.CheckManifest(manifest(uses)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", uses, err, want)
		}
	}
	hostProc := manifest(&wire.Uses{Host: []string{"/proc"}})
	if err := wire.CheckManifest(hostProc); err != nil {
		t.Errorf("the host's procfs, without capabilities: %v", err)
	}
	hostProc.Capabilities = []string{"CAP_SYS_NICE"}
	if err := wire.CheckManifest(hostProc); err == nil || !strings.Contains(err.Error(), "without capabilities") {
		t.Errorf("the host's procfs, with one: %v", err)
	}
}
