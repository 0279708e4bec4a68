package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// ServeListeners is the generator of listeners: each is that of a thread which does nothing, in a user namespace of its
// own. It writes their descriptors as a JSON list, and ends with its input.
func ServeListeners(n int, in io.Reader, out io.Writer) error {
	program, err := filter.Program(notifying(getppid), nil)
	if err != nil {
		return err
	}
	type loaded struct {
		fd  notify.FD
		err error
	}
	listeners := make(chan loaded)
	for range n {
		go func() {
			runtime.LockOSThread()
			fd, err := notify.Load(program, 0)
			listeners <- loaded{fd, err}
			select {}
		}()
	}
	fds := make([]int, n)
	for i := range fds {
		l := <-listeners
		if l.err != nil {
			return l.err
		}
		fds[i] = int(l.fd)
	}
	if err := json.NewEncoder(out).Encode(fds); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// generator is the process that runs ServeListeners.
type generator struct {
	process *exec.Cmd
	input   io.Closer
	fds     []int
}

func startGenerator(ctx context.Context, command []string, n int) (*generator, error) {
	id, err := run.DefaultHostID()
	if err != nil {
		return nil, err
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(id), Size: 1 << 16}}
	g := &generator{process: exec.CommandContext(ctx, "/proc/self/exe", append(command, strconv.Itoa(n))...)}
	g.process.Stderr = os.Stderr
	g.process.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	if g.input, err = g.process.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := g.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.process.Start(); err != nil {
		return nil, fmt.Errorf("start the generator of listeners: %w", err)
	}
	if err := json.NewDecoder(output).Decode(&g.fds); err != nil {
		return nil, errors.Join(fmt.Errorf("the generator of listeners: %w", err), g.close())
	}
	return g, nil
}

func (g *generator) close() error {
	g.input.Close()
	return g.process.Wait()
}

// listener takes the i-th listener.
func (g *generator) listener(i int) (*os.File, error) {
	pidfd, err := unix.PidfdOpen(g.process.Process.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, g.fds[i], 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// measureScale attaches many listeners, each as a container, to the broker with the config's plugins.
func (b *bench) measureScale(ctx context.Context, report *Report) error {
	rows := slices.DeleteFunc(slices.Clone(b.rows), func(r *row) bool { return r.supervisor != caller.Supervisor(b.engine) })
	if b.options.Listeners == 0 || len(rows) == 0 {
		return nil
	}
	scale := &Scale{Listeners: b.options.Listeners}
	report.Scale = scale
	var err error
	if scale.Calls, err = b.measureAlone(ctx, rows); err != nil {
		return err
	}
	generator, err := startGenerator(ctx, b.options.Generator, scale.Listeners)
	if err != nil {
		return err
	}
	defer generator.close()
	if err := scale.attachAll(ctx, b.engine, generator); err != nil {
		return err
	}
	if err := scale.measureProcesses(ctx, b.options.Watcher, b.processes()); err != nil {
		return err
	}
	return b.measureAmong(ctx, rows, scale)
}

func (b *bench) measureAlone(ctx context.Context, rows []*row) ([]ScaledCall, error) {
	var calls []ScaledCall
	for _, r := range rows {
		p50, err := r.medianOf(ctx, blockedCalls, 0)
		if err != nil {
			return nil, err
		}
		calls = append(calls, ScaledCall{Name: r.name, Alone: p50})
	}
	return calls, nil
}

func (b *bench) measureAmong(ctx context.Context, rows []*row, scale *Scale) error {
	for i, r := range rows {
		p50, err := r.medianOf(ctx, blockedCalls, 0)
		if err != nil {
			return err
		}
		scale.Calls[i].Among = p50
		scale.Calls[i].Ratio = p50 / scale.Calls[i].Alone
	}
	return nil
}

// medianOf is the p50 of n calls, with a pause before each, in µs.
func (r *row) medianOf(ctx context.Context, n int, pause time.Duration) (float64, error) {
	durations, err := r.measure(ctx, n, pause)
	return caller.Microseconds(durations.Percentile(50)), err
}

// attachAll attaches the generator's listeners to a broker, each as a container.
func (s *Scale) attachAll(ctx context.Context, broker caller.Supervisor, g *generator) error {
	files := make([]*os.File, len(g.fds))
	for i := range files {
		var err error
		if files[i], err = g.listener(i); err != nil {
			return err
		}
	}
	started := time.Now()
	for i, file := range files {
		claim := container.Claim{ID: fmt.Sprintf("bench-%d", i), Runtime: "run", PID: g.process.Process.Pid}
		if err := broker.Attach(ctx, file, claim); err != nil {
			return err
		}
	}
	s.Attach = caller.Microseconds(time.Since(started)) / float64(len(files))
	return nil
}

// processes are this one, which is the broker, and the plugins.
func (b *bench) processes() []Process {
	found := []Process{{Name: "broker", pid: os.Getpid()}}
	plugins, _ := b.engine.Status()
	for _, p := range plugins {
		found = append(found, Process{Name: "plugin " + p.Name, pid: p.PID})
	}
	return found
}

// measureProcesses says how large the processes are, and how often they wake up while nothing happens.
func (s *Scale) measureProcesses(ctx context.Context, watch []string, processes []Process) error {
	for _, p := range processes {
		watch = append(watch, strconv.Itoa(p.pid))
	}
	output, err := exec.CommandContext(ctx, "/proc/self/exe", watch...).Output()
	if err != nil {
		return fmt.Errorf("watch the processes: %w", err)
	}
	var seen []activity
	if err := json.Unmarshal(output, &seen); err != nil || len(seen) != len(processes) {
		return fmt.Errorf("watch the processes: %w: %q", err, output)
	}
	for i, p := range processes {
		p.RSS, p.WakeUps, p.CPU = seen[i].RSS, seen[i].Switches, caller.Microseconds(seen[i].CPU)
		s.Processes = append(s.Processes, p)
	}
	s.IdleSeconds = idleTime.Seconds()
	return nil
}
