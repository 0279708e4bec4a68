package launcher_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// startHostile starts the plugin as production does, with limits that cost this machine little to reach.
func startHostile(t *testing.T, name string, limits sandbox.Limits, log zerolog.Logger) *launcher.Plugin {
	t.Helper()
	sdktest.RequireRoot(t)
	spec := specOf(testplugin.Install(t, name))
	spec.Limits = limits
	manifest, err := launcher.ReadManifest(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launcher.Start(t.Context(), spec, manifest, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// startLimited starts the plugin where cgroups limit it.
func startLimited(t *testing.T, name string, limits sandbox.Limits) *launcher.Plugin {
	t.Helper()
	p := startHostile(t, name, limits, zerolog.Nop())
	if weaker := p.Status().Weaker; len(weaker) > 0 {
		require.Lacking(t, "needs cgroups that limit memory and tasks: %s", weaker)
	}
	return p
}

// attack has the plugin attack, and returns what it says came of it.
func attack(t *testing.T, p *launcher.Plugin, what string, on ...string) string {
	t.Helper()
	return attackUntil(t.Context(), t, p, what, on...)
}

// attackUntil has it attack until ctx ends, in each process that takes the place of one that dies of it.
func attackUntil(ctx context.Context, t *testing.T, p *launcher.Plugin, what string, on ...string) string {
	t.Helper()
	if on == nil {
		on = []string{}
	}
	settings, err := json.Marshal(map[string]any{"attack": what, "on": on})
	if err != nil {
		t.Fatal(err)
	}
	err = p.NewSession(&wire.Container{Id: what}, string(settings), nobody{}, nothing).Attach(ctx)
	if err == nil {
		t.Fatal("it attaches the container")
	}
	return err.Error()
}

// TestHostile has a plugin that was taken over try to reach the host, the broker and another plugin.
func TestHostile(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, name := range []string{"hostile", "hostile_pids"} {
		t.Run(name, func(t *testing.T) {
			p := startHostile(t, name, sandbox.Limits{}, zerolog.Nop())
			other := start(t, "trial")
			otherPID := strconv.Itoa(other.Status().PID)
			for what, on := range map[string][]string{
				"open memory":            {self},
				"take a descriptor":      {self},
				"mount":                  nil,
				"become root":            nil,
				"write as root":          {t.TempDir()},
				"write to a host path":   nil,
				"write to its binary":    nil,
				"connect":                listeners(t),
				"reach a network":        nil,
				"make a disk's node":     {strconv.Itoa(disk(t))},
				"fill its folder":        nil,
				"kill":                   {self},
				"read memory":            {otherPID},
				"see processes":          nil,
				"join namespaces":        hostNamespaces(t),
				"find a mount namespace": nil,
				"open by handle":         nil,
				"freeze a filesystem":    nil,
				"trace":                  {otherPID},
				"execute a shell":        nil,
				"execute its own":        nil,
				"load a BPF program":     nil,
				"make a user namespace":  nil,
			} {
				t.Run(what, func(t *testing.T) {
					if said := attack(t, p, what, on...); strings.Contains(said, succeeded) || strings.Contains(said, "unexpected") {
						t.Error(said)
					} else {
						t.Log(said)
					}
				})
			}
			t.Run("kill another plugin", func(t *testing.T) {
				if said := attack(t, p, "kill", otherPID); strings.Contains(said, succeeded) {
					t.Error(said)
				}
			})
			if s := p.Status(); s.State != launcher.Running || s.Restarts != 0 {
				t.Errorf("status %+v", s)
			}
			if s := other.Status(); s.State != launcher.Running || s.Restarts != 0 {
				t.Errorf("status of the other plugin %+v", s)
			}
		})
	}
}

// TestOrdinaryWork has plugins do what acting for callers takes.
func TestOrdinaryWork(t *testing.T) {
	for _, name := range []string{"hostile", "hostile_pids"} {
		p := startHostile(t, name, sandbox.Limits{}, zerolog.Nop())
		if said := attack(t, p, "ordinary work"); !strings.Contains(said, succeeded) {
			t.Error(said)
		}
	}
}

// TestDeclared has a plugin do what it declares: it is the sandbox that refuses it to others, and nothing else.
func TestDeclared(t *testing.T) {
	p := startHostile(t, "hostile_declared", sandbox.Limits{}, zerolog.Nop())
	for what, on := range map[string][]string{
		"mount": nil, "become root": nil, "take a descriptor": {strconv.Itoa(os.Getpid())}, "reach a network": nil,
	} {
		if said := attack(t, p, what, on...); !strings.Contains(said, succeeded) {
			t.Errorf("%s: %s", what, said)
		}
	}
	// It may make the node, and not open it: its filesystems have no devices.
	if said := attack(t, p, "make a disk's node", strconv.Itoa(disk(t))); !strings.Contains(said, unix.EACCES.Error()) {
		t.Error(said)
	}
}

// listeners are the addresses of sockets of the test, as the admin socket is one.
func listeners(t *testing.T) []string {
	t.Helper()
	addresses := []string{filepath.Join(t.TempDir(), "control.sock"), "@intercede-hostile-" + strconv.Itoa(os.Getpid())}
	for _, address := range addresses {
		l, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	return addresses
}

// disk is the number of the block device that the root filesystem is on, or of a loop device.
func disk(t *testing.T) int {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	if unix.Major(st.Dev) == 0 {
		return int(unix.Mkdev(7, 0))
	}
	return int(st.Dev)
}

// hostNamespaces are the links of the namespaces of this process, which are those of process 1 where tests run.
func hostNamespaces(t *testing.T) (links []string) {
	t.Helper()
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, link)
	}
	return links
}

// TestHostileForks has a plugin fork: what it forked ends with it.
func TestHostileForks(t *testing.T) {
	for _, name := range []string{"hostile", "hostile_pids"} {
		t.Run(name, func(t *testing.T) {
			const tasks = 64
			p := startLimited(t, name, sandbox.Limits{Tasks: tasks})
			if said := attack(t, p, "fork", "10000"); !strings.Contains(said, unix.EAGAIN.Error()) {
				t.Error(said)
			}
			n := running(name)
			if n < tasks/2 || n > tasks {
				t.Errorf("%d processes of it run", n)
			}
			p.Stop()
			eventually(t, "nothing of it is left", func() bool { return running(name) == 0 })
		})
	}
}

// TestHostileAllocates has a plugin use 4 GiB of memory: the kernel kills it.
func TestHostileAllocates(t *testing.T) {
	p := startLimited(t, "hostile", sandbox.Limits{Memory: 64 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answer := make(chan string)
	go func() { answer <- attackUntil(ctx, t, p, "allocate", "4096") }()
	eventually(t, "the process is killed", func() bool { return p.Status().Restarts > 0 })
	cancel()
	if said := <-answer; strings.Contains(said, succeeded) {
		t.Error(said)
	}
}

// lockedBuffer keeps what is written to it.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestHostileLog has plugins write 82 MB and more to standard error: before they serve, and after.
func TestHostileLog(t *testing.T) {
	var log lockedBuffer
	heap := heapSize()
	p := startHostile(t, "hostile_loud", sandbox.Limits{}, zerolog.New(&log).Level(zerolog.DebugLevel))
	// It attaches containers meanwhile, or refuses them. On a slow machine it writes for long.
	for !strings.Contains(attack(t, p, "flood its log"), "it is written") {
		time.Sleep(5 * time.Millisecond)
	}
	if n := len(log.String()); n == 0 || n > floodSize/10 {
		t.Errorf("%d bytes are logged", n)
	}
	if grown := heapSize() - heap; grown > floodSize/2 && heapSize() > heap {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if s := p.Status(); s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
}

// heapSize is what the heap has had at most, in bytes.
func heapSize() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapSys
}
