package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/intercede/intercede/tests/stage"
)

// Where a test finds the programs of its suite, and a folder with those of testdata and one for temporary files.
const (
	ProgramsPoint = "/opt/programs"
	WorkPoint     = "/opt/work"
)

// patience is longer than any test takes in one place.
const patience = 10 * time.Minute

// places are where a test is run.
type places struct {
	suite  Suite
	work   string   // the folder that is seen as WorkPoint: on a filesystem on which the kernel lets root make nodes
	disks  []string // block devices
	plain  string   // a config without plugins
	root   string   // a folder for the root of real root
	daemon *stage.Daemon
}

func newPlaces(s *stage.Test, suite Suite) *places {
	s.Helper()
	p := &places{suite: suite, work: s.TempDir(), root: s.TempDir(), daemon: s.Serve(stage.Setup{Config: suite.Config})}
	for range suite.Disks {
		image := filepath.Join(s.TempDir(), "disk")
		s.Command("truncate", "-s", suite.DiskSize, image)
		disk := strings.TrimSpace(s.Command("losetup", "--find", "--show", image))
		s.Cleanup(func() { s.Command("losetup", "--detach", disk) })
		p.disks = append(p.disks, disk)
	}
	p.plain = filepath.Join(s.TempDir(), "config.toml")
	tmp := filepath.Join(p.work, "tmp")
	if err := errors.Join(os.WriteFile(p.plain, nil, 0o644), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		s.Fatal(err)
	}
	suite.Prepare(s, p.work)
	return p
}

// environment is what a test finds.
func (p *places) environment() []string {
	all := append([]string{"PATH=" + WorkPoint + ":" + ProgramsPoint + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "TMPDIR=" + WorkPoint + "/tmp"}, p.suite.Environment...)
	for i, name := range p.suite.Disks {
		all = append(all, name+"="+p.disks[i])
	}
	return all
}

// container runs the test in one of `intercede run`. It does not have CAP_SYS_RESOURCE, as those of engines by default.
func (p *places) container(ctx context.Context, test string, flags ...string) *exec.Cmd {
	arguments := append([]string{p.daemon.Program(), "run"}, flags...)
	arguments = append(arguments, "--cap-drop", "sys_resource",
		"--mount", "type=bind,source="+p.suite.Programs+",target="+ProgramsPoint+",ro,idmap",
		"--mount", "type=bind,source="+p.work+",target="+WorkPoint+",idmap")
	for _, rule := range p.suite.DeviceRules {
		arguments = append(arguments, "--device-cgroup-rule", rule)
	}
	for _, disk := range p.disks {
		arguments = append(arguments, "--device", disk)
	}
	for _, pair := range p.environment() {
		arguments = append(arguments, "--env", pair)
	}
	arguments = append(append(arguments, "--"), p.suite.Command(test)...)
	return p.command(ctx, arguments)
}

// asRoot runs the test as root of the host, in namespaces of its own.
func (p *places) asRoot(ctx context.Context, test string) *exec.Cmd {
	arguments := []string{"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net",
		"../compare/testdata/as-root", p.root, strings.Join(p.disks, " "), p.suite.Programs, ProgramsPoint, p.work, WorkPoint}
	c := p.command(ctx, append(arguments, p.suite.Command(test)...))
	c.Env = p.environment()
	return c
}

// command is one that the kernel kills when these tests are killed.
func (p *places) command(ctx context.Context, words []string) *exec.Cmd {
	if p.suite.UsualPriority {
		const script = `chrt --other --pid 0 $$ && renice --priority 0 --pid $$ >/dev/null && exec "$@"`
		words = append([]string{"sh", "-c", script, "sh"}, words...)
	}
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// results are what a test came to.
type results struct{ plain, intercepted, root Result }

// place is one of the places.
type place struct {
	name    string
	of      func(r *results) *Result
	command func(ctx context.Context, test string) *exec.Cmd
}

// all are the places, in the order in which a test runs in them.
func (p *places) all() []place {
	all := []place{
		{"in a container without plugins", func(r *results) *Result { return &r.plain }, func(ctx context.Context, test string) *exec.Cmd {
			return p.container(ctx, test, "--config", p.plain)
		}},
		{"with Intercede", func(r *results) *Result { return &r.intercepted }, func(ctx context.Context, test string) *exec.Cmd {
			return p.container(ctx, test, "--config", p.daemon.Config(), "--socket", p.daemon.Socket())
		}},
		{"as real root", func(r *results) *Result { return &r.root }, p.asRoot},
	}
	if !p.suite.WithoutPlugins {
		return all[1:]
	}
	return all
}

// run runs a test in each place.
func (p *places) run(ctx context.Context, test string) (r results, err error) {
	for _, place := range p.all() {
		if *place.of(&r), err = p.runIn(ctx, place, test); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (p *places) runIn(ctx context.Context, place place, test string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var output bytes.Buffer
	c := place.command(ctx, test)
	c.Stdout, c.Stderr = &output, &output
	c.Run() // the status of a test that does not pass is not 0
	if ctx.Err() != nil {
		return Result{}, fmt.Errorf("%s: %w\n%s", c, ctx.Err(), &output)
	}
	return p.suite.Read(c.ProcessState.ExitCode(), output.String()), nil
}
