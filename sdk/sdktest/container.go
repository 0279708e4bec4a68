package sdktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/denial"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

const (
	// HostID is the user and group id that a container's root has on the host.
	HostID = 100000
	// IDCount is how many ids a container has.
	IDCount = 65536
)

// defaultDeadline is the broker's.
const defaultDeadline = 10 * time.Second

// Container is a real unprivileged container: a user, mount, pid, uts and ipc namespace, and a rootfs.
type Container struct {
	rootfs   string
	init     *exec.Cmd
	socket   int // init's
	sending  sync.Mutex
	broker   *broker // nil: nothing is intercepted
	filter   []unix.SockFilter
	brokers  sync.WaitGroup
	identity sdk.Container
}

// NewContainer makes a container in which the handler answers the system calls of its manifest, until the end of the
// test. Every call that the manifest's conditions want is copied, checked and answered as the broker does it, over
// lanes. The handler is one that Main was given, and runs in a process and a sandbox as in production, with the
// capabilities of its manifest alone; or see InProcess. With a nil handler nothing is intercepted.
//
// The package needs a TestMain that calls Main. Without root the test is skipped, or fails if INTERCEDE_TEST_STRICT=1.
//
//	c := sdktest.NewContainer(t, handler)
//	result := c.Call(t, "umask 022", "sys mknod s:/dev/null S_IFCHR|0666 dev:1:3", "stat /dev/null")
//	lines := result.Lines(t)
//	if lines[0].Errno != 0 || lines[1].Major != 1 { ... }
func NewContainer(t testing.TB, h sdk.Handler, options ...Option) *Container {
	t.Helper()
	if !mainCalled {
		t.Fatal("sdktest: the package needs: func TestMain(m *testing.M) { sdktest.Main(m, HANDLER) }")
	}
	RequireRoot(t)
	config := config{deadline: defaultDeadline}
	for _, option := range options {
		option(&config)
	}
	rootID := HostID
	if config.realRoot {
		rootID = 0
	}
	c := &Container{rootfs: makeRootfs(t, rootID)}
	for _, m := range config.mounts {
		if err := makeDir(filepath.Join(c.rootfs, m.target), 0o755, rootID); err != nil {
			t.Fatalf("sdktest: %v", err)
		}
	}
	if err := c.startInit(t, config); err != nil {
		t.Fatalf("sdktest: start the container: %v", err)
	}
	identity, err := c.identify(t.Name(), config)
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	c.identity = identity
	if h != nil {
		c.intercept(t, h, config)
	}
	return c
}

// AsRoot runs a program of the host, linked statically, as the host's own root, in a fresh rootfs like a container's:
// what an intercepted call should come to.
func AsRoot(t testing.TB, program string, args ...string) Result {
	t.Helper()
	c := NewContainer(t, nil, WithRealRoot())
	return c.Run(t, c.Install(t, program), args...)
}

// Rootfs is the directory on the host that is the container's root, with /bin, /dev (a plain directory), /mnt, /proc,
// /root and /tmp. What the container mounts is not seen in it.
func (c *Container) Rootfs() string { return c.rootfs }

// Identity is the container as the handler gets it.
func (c *Container) Identity() sdk.Container { return c.identity }

// intercept puts the handler between the container and the kernel.
func (c *Container) intercept(t testing.TB, h sdk.Handler, config config) {
	t.Helper()
	p := pluginOf(t, h)
	settings, err := fillSettings(p.manifest, config.settings)
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	// Cleanup runs in reverse: the container ends, then what is in flight, then the session.
	kept := &wire.Store{}
	attach := func() (uint64, error) { return p.attach(t, c.identity, settings, kept) }
	session, err := attach()
	if err != nil {
		t.Fatalf("sdktest: attach: %v", err)
	}
	t.Cleanup(c.stop)
	taken := wire.Narrow(p.manifest, settings)
	c.broker = &broker{t: t, plugin: p, manifest: taken, kept: kept, attach: attach, deadline: config.deadline}
	c.broker.session.Store(session)
	if c.filter, err = buildFilter(taken); err != nil {
		t.Fatalf("sdktest: %v", err)
	}
}

// startInit starts process 1 of the container and has it set the mounts up.
func (c *Container) startInit(t testing.TB, config config) error {
	ours, theirs, err := linux.Socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	c.socket = ours
	socket := os.NewFile(uintptr(theirs), "init")
	defer socket.Close()
	c.init = exec.Command("/proc/self/exe")
	c.init.Args = []string{"init"}
	c.init.Env = append(os.Environ(), stageEnv+"="+stageInit)
	c.init.Dir = "/"
	c.init.Stderr = os.Stderr
	c.init.ExtraFiles = []*os.File{socket}
	c.init.SysProcAttr = into(config.cgroup, namespaces(config.realRoot))
	if err := c.init.Start(); err != nil {
		unix.Close(ours)
		if errors.Is(err, unix.EACCES) {
			return fmt.Errorf("%w: the container's root must be able to execute the test binary: build it with umask 022", err)
		}
		return err
	}
	t.Cleanup(func() {
		c.stop()
		unix.Close(c.socket)
	})
	if err := join(config.cgroup, c.init.Process.Pid); err != nil {
		return err
	}
	s := setup{Rootfs: c.rootfs}
	var mounts []int
	for _, m := range config.mounts {
		s.Mounts = append(s.Mounts, m.target)
		mounts = append(mounts, int(m.mount.Fd()))
	}
	if err := send(c.socket, s, mounts...); err != nil {
		return err
	}
	socket.Close()
	var r report
	if _, err := receive(c.socket, &r); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if r.Event != ready {
		return errors.New(r.Error)
	}
	return nil
}

func namespaces(realRoot bool) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	if realRoot {
		return attributes
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: HostID, Size: IDCount}}
	attributes.Cloneflags |= unix.CLONE_NEWUSER
	attributes.UidMappings, attributes.GidMappings = ids, ids
	attributes.GidMappingsEnableSetgroups = true
	attributes.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	return attributes
}

// identify finds out who the container is, as the broker does when a listener is attached.
func (c *Container) identify(id string, config config) (sdk.Container, error) {
	proc := "/proc/" + strconv.Itoa(c.init.Process.Pid)
	namespace, err := target.StatNamespace(proc + "/ns/user")
	if err != nil {
		return sdk.Container{}, err
	}
	cgroups, err := cgroup.Read(proc + "/cgroup")
	if err != nil {
		return sdk.Container{}, err
	}
	devicesDenied, err := denial.Denies(cgroups[""])
	if err != nil {
		return sdk.Container{}, err
	}
	ids := []sdk.IDMapping{{Inside: 0, Outside: HostID, Length: IDCount}}
	if config.realRoot {
		ids = []sdk.IDMapping{{Inside: 0, Outside: 0, Length: 1<<32 - 1}}
	}
	return sdk.Container{
		ID: id, Runtime: "run", InitPID: c.init.Process.Pid,
		UserNamespace: namespace, UIDMap: ids, GIDMap: ids, Cgroups: cgroups, CgroupShared: capture.CgroupShared(cgroups),
		DevicesDenied: devicesDenied,
	}, nil
}

// stop ends every process of the container, and waits until what they asked has been answered.
func (c *Container) stop() {
	c.init.Process.Kill()
	c.init.Wait()
	c.brokers.Wait()
}

// startProgram asks init for a program and has the broker serve its listener.
func (c *Container) startProgram(o order, files [3]*os.File) (*Process, error) {
	ours, theirs, err := linux.Socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	p := &Process{socket: ours, container: c}
	c.sending.Lock()
	err = send(c.socket, start{}, int(files[0].Fd()), int(files[1].Fd()), int(files[2].Fd()), theirs)
	c.sending.Unlock()
	if err == nil {
		err = send(ours, o)
	}
	if err != nil {
		unix.Close(ours)
		return nil, fmt.Errorf("the container's init: %w", err)
	}
	return p, nil
}

// serve has the broker answer a listener until its last caller is gone.
func (c *Container) serve(listener int) *recorder {
	r := &recorder{}
	c.brokers.Add(1)
	go func() {
		defer c.brokers.Done()
		defer unix.Close(listener)
		c.broker.serve(context.Background(), listener, r)
	}()
	return r
}
