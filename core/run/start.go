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
	if err := prepare(&options); err != nil {
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

// prepare checks the options and fills in the defaults.
func prepare(options *Options) error {
	if os.Geteuid() != 0 {
		return errors.New("intercede run must be started as root, because it mounts the container's root filesystem: use sudo")
	}
	if err := errors.Join(options.Check(), options.checkRootfs(), options.checkFilter()); err != nil {
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
	mounts, err := parseMounts(options.Tmpfs, options.Mounts)
	if err != nil {
		return err
	}
	staged := options.needsStage(mounts)
	socket, err := c.spawn(uids, gids, staged)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer func() { c.stage.Close() }() // it may be nil
	c.stopCancel = context.AfterFunc(ctx, c.kill)
	if err := c.cgroups.add(c.InitPID()); err != nil {
		return err
	}
	if err := c.describe(socket, options, staged); err != nil {
		return err
	}
	if err := c.awaitCommand(socket, options); err != nil || !staged {
		return err
	}
	return c.clearStage()
}

// spawn starts the init, which waits for its description on the other end of the returned socket; in the stage, if it
// is to make its mount namespace there itself.
func (c *Container) spawn(uids, gids idMap, staged bool) (*os.File, error) {
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
	prepareThread := func() error { return nil }
	if staged {
		command.SysProcAttr.Cloneflags &^= unix.CLONE_NEWNS
		prepareThread = enterStage
	}
	if err := c.startOnThread(command, prepareThread); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

func initAttributes(uids, gids idMap) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings:                uids,
		GidMappings:                gids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{Uid: 0, Gid: 0},
		Setsid:                     true,
		Pdeathsig:                  unix.SIGKILL,
	}
}

// startOnThread starts the process from a thread that lives exactly as long as the process does, because the kernel
// sends the signal of Pdeathsig when that thread ends.
func (c *Container) startOnThread(command *exec.Cmd, prepare func() error) error {
	started := make(chan error)
	exited := make(chan struct{})
	linux.GoOnThread(func() {
		err := prepare()
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
func (c *Container) describe(socket *os.File, options *Options, staged bool) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", c.InitPID()))
	if errors.Is(err, os.ErrNotExist) {
		return nil // the init has died, which awaitCommand explains
	}
	if err != nil {
		return fmt.Errorf("open the container's user namespace: %w", err)
	}
	defer namespace.Close()
	tree, err := rootTree(options, int(namespace.Fd()))
	if err != nil {
		return err
	}
	defer tree.Close()
	extras, err := c.prepareExtras(options)
	if err != nil {
		return err
	}
	defer closeFiles(extras.files...)
	rootStaged := !options.discards()
	if staged {
		root := tree
		if !rootStaged {
			root = nil
		}
		if err := c.fillStage(root, extras.mounts, int(namespace.Fd())); err != nil {
			return err
		}
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

		Staged: staged, RootStaged: rootStaged,
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
	sys, err := newSys()
	if err != nil {
		return fmt.Errorf("copy the mount of /sys: %w", err)
	}
	defer sys.Close()
	descriptors := []int{int(sys.Fd()), int(dev.Fd())}
	if !rootStaged {
		descriptors = append(descriptors, int(tree.Fd()))
	}
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
