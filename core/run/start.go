package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Start builds the container and returns when its command is being executed. When ctx ends, then or later, the
// container is killed. The caller must call [Container.Close].
//
// The error is a [*CommandError] when only the command could not be executed. After an error nothing is left behind.
func Start(ctx context.Context, options Options) (*Container, error) {
	if err := unlessDone(ctx, func() error { return prepare(&options) }); err != nil {
		return nil, err
	}
	container := &Container{id: newID(), files: stdio{options.Stdin, options.Stdout, options.Stderr}}
	if options.Name == "" {
		options.Name = container.id
	}
	if err := container.start(ctx, &options); err != nil {
		if container.listener != nil {
			container.listener.Close()
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("start the container: %w", ctx.Err())
		}
		return nil, errors.Join(err, container.Close())
	}
	return container, nil
}

// unlessDone calls fn, which may hang in a filesystem of the host that does not answer. After the end of ctx it does not
// wait for fn any more, and returns ctx's error.
func unlessDone(ctx context.Context, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// prepare checks the options and fills in the defaults.
func prepare(options *Options) error {
	if os.Geteuid() != 0 {
		return errors.New("intercede run must be started as root, because it mounts the container's root filesystem: use sudo")
	}
	if err := errors.Join(options.Check(), options.checkRootfs(), options.checkFilter()); err != nil {
		return err
	}
	mounts, err := parseMounts(options.Tmpfs, options.Mounts)
	if err != nil {
		return err
	}
	if err := checkNested(mounts); err != nil {
		return err
	}
	if options.HostID == 0 {
		first, err := DefaultHostID()
		if err != nil {
			return err
		}
		options.HostID = first
	}
	if options.Workdir == "" {
		options.Workdir = "/"
	}
	if err := checkHostID(options.HostID); err != nil {
		return err
	}
	uids, gids, err := options.maps()
	if err != nil {
		return err
	}
	return errors.Join(checkMap(uids, "uid_map"), checkMap(gids, "gid_map"))
}

// newID returns 16 hexadecimal digits.
func newID() string {
	id := make([]byte, 8)
	rand.Read(id)
	return hex.EncodeToString(id)
}

func (c *Container) start(ctx context.Context, options *Options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	devices, err := device.ParseRules(options.Devices)
	if err != nil {
		return err
	}
	nodes, err := parseNodes(options.DeviceNodes)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		devices = append(devices, n.rule)
	}
	uids, gids, err := options.maps()
	if err != nil {
		return err
	}
	if c.cgroups, err = newCgroups(c.id, options.Memory, devices, uids.outside(0), gids.outside(0)); err != nil {
		return err
	}
	socket, err := c.spawn(uids, gids)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer func() { c.stage.Close() }() // it may be nil
	c.stopCancel = context.AfterFunc(ctx, c.kill)
	if err := c.cgroups.add(c.InitPID()); err != nil {
		return err
	}
	if err := c.describe(ctx, socket, options); err != nil {
		return err
	}
	if err := c.awaitCommand(socket, options); err != nil {
		return err
	}
	return c.clearStage()
}

// spawn starts the init in the stage, where it waits for its description on the other end of the returned socket.
func (c *Container) spawn(uids, gids idMap) (*os.File, error) {
	// What this process has inherited open, such as a directory of the host, is nothing for the container: links of
	// /proc lead there, which the container's author may have put in the way of the init.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, explainKernel(fmt.Errorf("keep descriptors from the container: %w", err), "5.11")
	}
	ours, theirs, err := linux.SocketpairFiles(unix.SOCK_STREAM, "socket")
	if err != nil {
		return nil, fmt.Errorf("start the container: %w", err)
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the container: %w", err)
	}
	defer null.Close()
	files := c.files.inherited(null)
	command := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{initName},
		Env:         initEnv,
		Dir:         "/",
		Stdin:       files[0],
		Stdout:      files[1],
		Stderr:      files[2],
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: initAttributes(uids, gids),
	}
	if err := c.startOnThread(command); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

func initAttributes(uids, gids idMap) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings:                uids,
		GidMappings:                gids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{Uid: 0, Gid: 0},
		Setsid:                     true,
		Pdeathsig:                  unix.SIGKILL,
	}
}

// startOnThread starts the process in the stage, from a thread that lives exactly as long as the process does, because
// the kernel sends the signal of Pdeathsig when that thread ends.
func (c *Container) startOnThread(command *exec.Cmd) error {
	started := make(chan error)
	exited := make(chan struct{})
	linux.GoOnThread(func() {
		err := enterStage()
		if err == nil {
			err = explainClone(command.Start())
		}
		started <- err
		if err != nil {
			return
		}
		c.status, c.waitErr = exitStatus(command.Wait(), command)
		close(exited)
	})
	if err := <-started; err != nil {
		return err
	}
	c.process, c.exited = command.Process, exited
	return nil
}

// explainClone adds what to do about the errors of clone(2) with new namespaces, and of executing this binary.
func explainClone(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC):
		hint = "a limit on namespaces is reached: raise the sysctls user.max_user_namespaces, user.max_pid_namespaces, user.max_mnt_namespaces"
	case errors.Is(err, unix.EPERM):
		hint = "user namespaces are not allowed here: run as root outside a chroot, with CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID"
	case errors.Is(err, unix.EINVAL):
		hint = "the kernel lacks user, pid or ipc namespaces (CONFIG_USER_NS), or does not take the maps of ids"
	case errors.Is(err, unix.EACCES):
		hint = "the container's root executes this program's file: make it executable for everybody (chmod a+rx)"
	default:
		return fmt.Errorf("start the container: %w", err)
	}
	return fmt.Errorf("start the container: %s: %w", hint, err)
}

// describe sends the init all that it needs.
func (c *Container) describe(ctx context.Context, socket *os.File, options *Options) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", c.InitPID()))
	if errors.Is(err, os.ErrNotExist) {
		return nil // the init has died, which awaitCommand explains
	}
	if err != nil {
		return fmt.Errorf("open the container's user namespace: %w", err)
	}
	defer namespace.Close()
	extras, err := c.prepareExtras(options)
	if err != nil {
		return err
	}
	defer closeFiles(extras.files...)
	var tree *os.File
	var mounts []*os.File
	var stage *os.File
	err = unlessDone(ctx, func() (err error) {
		if tree, err = rootTree(options, int(namespace.Fd())); err != nil {
			return err
		}
		if mounts, err = openMounts(extras.mounts, int(namespace.Fd()), extras.uids, extras.gids); err != nil {
			return err
		}
		stage, err = fillStage(c.InitPID(), tree, extras.mounts, mounts)
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	defer func() { closeFiles(append(mounts, tree)...) }() // they may be nil
	c.stage = stage
	if err != nil {
		return err
	}
	wanted := request{
		ID:       c.id,
		Hostname: options.Name,
		Args:     options.Args,
		Env:      options.Env,
		Workdir:  options.Workdir,
		User:     options.User,
		CapDrop:  options.CapDrop,
		Filter:   options.Filter,
		Terminal: c.files.terminals(),
		Mounts:   extras.mounts,
		Nodes:    extras.nodes,
		Ulimits:  extras.ulimits,
		UIDs:     extras.uids,
		GIDs:     extras.gids,
	}
	if output := c.files.output(); output != nil {
		wanted.Window = windowOf(output)
		wanted.Env = mergeEnv([]string{"TERM=" + terminalType()}, wanted.Env)
	}
	// An init that has died is explained by awaitCommand.
	owner, err := options.hostOwner()
	if err != nil {
		return err
	}
	dev, err := newDev(owner)
	if err != nil {
		return fmt.Errorf("mount the container's /dev: %w", err)
	}
	defer dev.Close()
	if err := makeInDev(dev, extras.inDev, extras.uids, extras.gids); err != nil {
		return err
	}
	descriptors := []int{int(dev.Fd())}
	for _, file := range extras.files {
		descriptors = append(descriptors, int(file.Fd()))
	}
	if err := sendMessage(int(socket.Fd()), wanted, descriptors...); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("describe the container to its init: %w", err)
	}
	return nil
}

// extras are what a container has beside its root filesystem.
type extras struct {
	mounts     []mountSpec
	inDev      []nodeSpec // nodes that are made in /dev
	nodes      []string   // the other ones
	ulimits    []ulimit
	uids, gids idMap
	files      []*os.File // the other nodes
}

func (c *Container) prepareExtras(options *Options) (e extras, err error) {
	if e.uids, e.gids, err = options.maps(); err != nil {
		return e, err
	}
	if e.ulimits, err = parseUlimits(options.Ulimits); err != nil {
		return e, err
	}
	if err := raiseUlimits(c.InitPID(), e.ulimits); err != nil {
		return e, err
	}
	if e.mounts, err = parseMounts(options.Tmpfs, options.Mounts); err != nil {
		return e, err
	}
	nodes, err := parseNodes(options.DeviceNodes)
	if err != nil {
		return e, err
	}
	var mounted []nodeSpec
	e.inDev, mounted = splitNodes(nodes, e.mounts)
	for _, n := range mounted {
		e.nodes = append(e.nodes, n.Target)
	}
	linux.OnThread(func() { e.files, err = makeNodes(mounted, e.uids, e.gids) })
	if err != nil {
		closeFiles(e.files...)
		e.files = nil
	}
	return e, err
}

func terminalType() string {
	if name := os.Getenv("TERM"); name != "" {
		return name
	}
	return "xterm"
}

// awaitCommand takes what the init sends until its execve closes the socket.
func (c *Container) awaitCommand(socket *os.File, options *Options) error {
	ready := false
	for {
		var told report
		descriptors, err := receiveMessage(int(socket.Fd()), &told)
		if errors.Is(err, io.EOF) {
			return c.checkReady(ready, options)
		}
		if err != nil {
			return fmt.Errorf("start the container: %w", err)
		}
		if told.Ready {
			ready = true
			continue
		}
		if err := c.take(&told, descriptors); err != nil {
			return err
		}
	}
}

func (c *Container) take(told *report, descriptors []int) (err error) {
	switch {
	case told.Failure != nil && told.Failure.Command:
		return newCommandError(told.Failure)
	case told.Failure != nil:
		return fmt.Errorf("start the container: %w", told.Failure)
	case told.ExecErrno != 0:
		return newCommandError(fmt.Errorf("execute the command in the container: %w", told.ExecErrno))
	case told.Listener && len(descriptors) == 1:
		c.listener = os.NewFile(uintptr(descriptors[0]), "seccomp listener")
	case told.Terminal && len(descriptors) == 2:
		c.terminal, err = connect(descriptors[0], descriptors[1], c.files)
	default:
		linux.CloseAll(descriptors...)
		return fmt.Errorf("start the container: its init sent an unknown message with %d descriptors", len(descriptors))
	}
	return err
}

// checkReady is for the end of the init's messages: it has executed the command, or has died on the way.
func (c *Container) checkReady(ready bool, options *Options) error {
	if ready && (len(options.Filter) == 0 || c.listener != nil) {
		return nil
	}
	<-c.exited
	hint := ""
	if options.Memory > 0 && c.status == statusSignal+int(unix.SIGKILL) {
		hint = "; if the memory limit is too small for it, raise --memory"
	}
	return fmt.Errorf("start the container: its init died with status %d before it could execute the command%s", c.status, hint)
}
