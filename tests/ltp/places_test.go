package ltp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/intercede/intercede/tests/stage"
)

// everything is as much as an operator may allow.
var everything = stage.Enable(map[string]string{
	"mknod":   `devices = ["b 0:0", "b 1:3", "c 0:0", "c 1:3", "c 1:5", "c 1:7-9", "c 5:0-2", "b 7:3"]`,
	"sysinfo": "",
	"setxattr": `
attributes = ["trusted.*", "security.ltptest*"]
max_size = 65536
read = true`,
	"sched": `
policies = ["other", "batch", "idle", "fifo", "rr", "deadline"]
min_nice = -20
max_io_priority = "rt:0"`,
	"bpf": "devices = true",
	"mount": `
allowed = ["ext2", "ext3", "ext4", "xfs", "btrfs"]
shift = true
nodev = false`,
})

// Where a test finds the programs, and a folder with further programs and one for temporary files.
const (
	programsPoint = "/opt/ltp"
	workPoint     = "/opt/work"
)

// places are where a test is run.
type places struct {
	programs string // the folder of the tests
	work     string // the folder that is seen as workPoint: on a filesystem on which the kernel lets root make nodes
	disk     string // a block device for them
	plain    string // a config without plugins
	root     string // a folder for the root of real root
	daemon   *stage.Daemon
}

func newPlaces(s *stage.Test, programs string) *places {
	s.Helper()
	p := &places{programs: programs, work: s.TempDir(), root: s.TempDir(), daemon: s.Serve(stage.Setup{Config: everything})}
	image := filepath.Join(s.TempDir(), "disk")
	s.Command("truncate", "-s", "320M", image) // the test library wants 300 MB
	p.disk = strings.TrimSpace(s.Command("losetup", "--find", "--show", image))
	s.Cleanup(func() { s.Command("losetup", "--detach", p.disk) })
	p.plain = filepath.Join(s.TempDir(), "config.toml")
	tmp := filepath.Join(p.work, "tmp")
	if err := errors.Join(os.WriteFile(p.plain, nil, 0o644), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		s.Fatal(err)
	}
	s.Command("cp", "testdata/mkfs.xfs", p.work)
	p.writeKconfig(s)
	return p
}

// writeKconfig gives the tests the kernel's configuration without CONFIG_RT_GROUP_SCHED: with it, they make no
// real-time thread where they see cgroups of version 2, although the controller may be of version 1.
func (p *places) writeKconfig(s *stage.Test) {
	s.Helper()
	s.Command("sh", "-c", `{ zcat /proc/config.gz 2>/dev/null || cat "/boot/config-$(uname -r)"; } | grep -v RT_GROUP_SCHED >"$0"`,
		filepath.Join(p.work, "kconfig"))
}

// patience is longer than any test takes; a test has a minute.
const patience = 5 * time.Minute

// environment is what a test finds. LTP_TIMEOUT_MUL makes its own limits longer, for a busy machine.
func (p *places) environment() []string {
	return []string{"PATH=" + workPoint + ":" + programsPoint + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "TMPDIR=" + workPoint + "/tmp", "KCONFIG_PATH=" + workPoint + "/kconfig", "LTP_DEV=" + p.disk, "LTP_TIMEOUT_MUL=4"}
}

// words are the command that runs a test.
func words(test string) []string {
	return []string{"/bin/sh", "-c", "cd " + programsPoint + " && timeout --kill-after=5 60 ./" + test}
}

// container runs the test in one of `intercede run`. With CAP_SYS_RESOURCE the test library would warn that it cannot
// protect itself from being killed (oom_score_adj). fgetxattr02 opens the block device 7:3.
func (p *places) container(ctx context.Context, test string, flags ...string) *exec.Cmd {
	arguments := append([]string{"run"}, flags...)
	arguments = append(arguments, "--cap-drop", "sys_resource", "--device", p.disk, "--device-cgroup-rule", "b 7:3 r",
		"--mount", "type=bind,source="+p.programs+",target="+programsPoint+",idmap",
		"--mount", "type=bind,source="+p.work+",target="+workPoint+",idmap")
	for _, pair := range p.environment() {
		arguments = append(arguments, "--env", pair)
	}
	arguments = append(append(arguments, "--"), words(test)...)
	return exec.CommandContext(ctx, p.daemon.Program(), arguments...)
}

// asRoot runs the test as root of the host, in namespaces of its own.
func (p *places) asRoot(ctx context.Context, test string) *exec.Cmd {
	arguments := []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net",
		"testdata/as-root", p.root, p.disk, p.programs, programsPoint, p.work, workPoint}
	c := exec.CommandContext(ctx, "unshare", append(arguments, words(test)...)...)
	c.Env = p.environment()
	return c
}

// results are what a test came to.
type results struct{ plain, intercepted, root result }

// run runs a test in each place.
func (p *places) run(ctx context.Context, test string) (r results, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, place := range []struct {
		result  *result
		command *exec.Cmd
	}{
		{&r.plain, p.container(ctx, test, "--config", p.plain)},
		{&r.intercepted, p.container(ctx, test, "--config", p.daemon.Config(), "--socket", p.daemon.Socket())},
		{&r.root, p.asRoot(ctx, test)},
	} {
		var output bytes.Buffer
		place.command.Stdout, place.command.Stderr = &output, &output
		place.command.Run() // the status of a test that does not pass is not 0
		if ctx.Err() != nil {
			return r, fmt.Errorf("%s: %w\n%s", place.command, ctx.Err(), &output)
		}
		*place.result = newResult(place.command.ProcessState.ExitCode(), output.String())
	}
	return r, nil
}
