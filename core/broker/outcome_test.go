package broker

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// realPPID is what the kernel answers a container's first process: its parent is outside.
const realPPID = 0

// TestOutcomes has one container meet each way in which a plugin can end a call; the plugin, which goes on unless it
// exits, is the same process throughout.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	pid := ask(t, c, testplugin.Identify).Value
	const failed = syscall.EIO
	for name, test := range map[string]struct {
		op     testplugin.Op
		a      uint64
		value  int64
		errno  syscall.Errno
		logged string
	}{
		"value":               {testplugin.Return, 42, 42, 0, ""},
		"negative value":      {testplugin.Return, 1<<64 - 5000, -5000, 0, ""},
		"errno as value":      {testplugin.Return, 1<<64 - 1, 0, failed, "this is errno 1: build it with Errno"},
		"errno":               {testplugin.Errno, uint64(unix.EXDEV), 0, unix.EXDEV, ""},
		"nameless errno":      {testplugin.Errno, 4094, 0, 4094, ""},
		"too large an errno":  {testplugin.Errno, 4096, 0, failed, "invalid response"},
		"errno 0":             {testplugin.Errno, 0, 0, failed, "invalid response"},
		"continue":            {testplugin.Continue, 0, realPPID, 0, ""},
		"next, of none":       {testplugin.Next, 0, realPPID, 0, ""},
		"Go error":            {testplugin.Error, 0, 0, failed, "it did not work"},
		"a lie of being gone": {testplugin.LieGone, 0, 0, failed, "the caller is gone"},
		"panic":               {testplugin.Panic, 0, 0, failed, "panic: ouch"},
		"zero response":       {testplugin.Zero, 0, 0, failed, "invalid response"},
		"descriptor unopened": {testplugin.AddBadFD, 0, 0, failed, "descriptor"},
		"unknown op":          {1000, 0, 0, failed, "no such op"},
		"much output":         {testplugin.Shout, 2000, 0, 0, ""},
		"much memory":         {testplugin.Allocate, 64, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.log.count(`"level":"warn"`, test.logged)
			want(t, ask(t, c, test.op, test.a), test.value, test.errno)
			if test.logged != "" {
				b.log.await(t, before+1, `"level":"warn"`, test.logged)
			}
		})
	}
	if again := ask(t, c, testplugin.Identify).Value; again != pid {
		t.Errorf("the plugin is process %d, and was %d", again, pid)
	}
	want(t, c.Call(t, unix.SYS_GETPPID), realPPID, 0) // not the plugin's: its arguments differ
}

// TestFailureContinues is for the other verdict.
func TestFailureContinues(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	for name, what := range map[string]testplugin.Op{"error": testplugin.Error, "panic": testplugin.Panic, "zero": testplugin.Zero} {
		t.Run(name, func(t *testing.T) { want(t, ask(t, c, what), realPPID, 0) })
	}
	eventually(t, "the calls are counted", func() bool { // which happens after they are answered
		s := b.Status()[0]
		return s.Calls == 3 && s.Failures == 3
	})
}

// TestMissingVerdict checks that a binding without a verdict does not continue.
func TestMissingVerdict(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	g := b.newGeneration(options{})
	g.Bindings[0].OnFailure = nil
	b.SetGeneration(g)
	want(t, ask(t, b.attach(t), testplugin.Error), 0, unix.ENOSYS)
}

func TestWriteBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	m := c.Map(t)
	page := uint64(os.Getpagesize())
	for name, test := range map[string]struct {
		address, n uint64
		errno      syscall.Errno
	}{
		"a page":       {m.Page, page, 0},
		"past a page":  {m.Page + page - 8, 16, unix.EFAULT},
		"unmapped":     {m.Unmapped, 1, unix.EFAULT},
		"read-only":    {m.ReadOnly, 1, unix.EFAULT},
		"no access":    {m.None, 1, unix.EFAULT},
		"null":         {0, 1, unix.EFAULT},
		"the kernel's": {-page, 1, unix.EFAULT},
		"nothing":      {m.Unmapped, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.Poke(t, m.Page, 0, int(page))
			want(t, ask(t, c, testplugin.Write, test.address, test.n), 7, test.errno)
			if test.address == m.Page && (c.Peek(t, m.Page) != 0x5a || c.Peek(t, m.Page+page-1) != 0x5a) {
				t.Error("the memory was not written")
			}
		})
	}
}

// TestWriteTooMuch writes a little more than the broker takes of one message: much more can end the plugin, whose
// memory is limited.
func TestWriteTooMuch(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	m := c.Map(t)
	want(t, ask(t, c, testplugin.Write, m.Page, wire.MaxMessage), 0, syscall.EIO)
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
}

func TestSnapshotOfCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	m := c.Map(t)
	page := uint64(os.Getpagesize())
	c.Poke(t, m.Page, 'x', int(page))
	c.Poke(t, m.Page+8, 0, 1)
	const max = testplugin.MaxBytes
	for name, test := range map[string]struct {
		nr      uintptr
		address uint64
		length  uint64
		value   int64
		errno   syscall.Errno
	}{
		"bytes":              {unix.SYS_SETHOSTNAME, m.Page, 5, 5, 0},
		"no bytes":           {unix.SYS_SETHOSTNAME, m.Unmapped, 0, 0, 0},
		"the bound":          {unix.SYS_SETHOSTNAME, m.Page, max, max, 0},
		"above the bound":    {unix.SYS_SETHOSTNAME, m.Page, max + 1, 0, unix.E2BIG},
		"as many as can be":  {unix.SYS_SETHOSTNAME, m.Page, 1<<64 - 1, 0, unix.E2BIG},
		"negative int":       {unix.SYS_SETHOSTNAME, m.Page, 1<<32 - 1, 0, unix.E2BIG},
		"past the page":      {unix.SYS_SETHOSTNAME, m.Page + page - 4, 5, 0, unix.EFAULT},
		"no access":          {unix.SYS_SETHOSTNAME, m.None, 5, 0, unix.EFAULT},
		"null":               {unix.SYS_SETHOSTNAME, 0, 5, 0, unix.EFAULT},
		"the kernel's":       {unix.SYS_SETHOSTNAME, 1<<64 - 8, 5, 0, unix.EFAULT},
		"string":             {unix.SYS_CHDIR, m.Page, 0, 8, 0},
		"string without NUL": {unix.SYS_CHDIR, m.Page + 9, 0, 0, unix.EFAULT},
		"empty string":       {unix.SYS_CHDIR, m.Page + 8, 0, 0, unix.ENOENT},
		"null string":        {unix.SYS_CHDIR, 0, 0, 0, unix.EFAULT},
	} {
		t.Run(name, func(t *testing.T) { want(t, c.Call(t, test.nr, test.address, test.length), test.value, test.errno) })
	}
}

// TestReadOnDemand has the plugin ask for memory that it did not declare.
func TestReadOnDemand(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	m := c.Map(t)
	c.Poke(t, m.Page, 0x21, 1)
	want(t, ask(t, c, testplugin.Read, m.Page), 0x21, 0)
	want(t, ask(t, c, testplugin.Read, m.Unmapped), 0, unix.EFAULT)
	want(t, ask(t, c, testplugin.Read, m.None), 0, unix.EFAULT)
}

func TestAddFD(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	for name, closeOnExec := range map[string]uint64{"kept": 0, "close on exec": unix.FD_CLOEXEC} {
		t.Run(name, func(t *testing.T) {
			c := b.attach(t)
			added := begin(c, testplugin.AddFD, closeOnExec)
			fd := (<-added).Value
			want(t, c.Call(t, unix.SYS_FCNTL, uint64(fd), unix.F_GETFD), int64(closeOnExec), 0)
		})
	}
}

// TestAddFDFullTable gives a descriptor to a caller that has no room for it.
func TestAddFDFullTable(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	c.FillTable(t)
	want(t, ask(t, c, testplugin.AddFD), 0, unix.EMFILE)
	want(t, ask(t, c, testplugin.Return, 5), 5, 0)
}

// TestNext asks two plugins in the generation's order.
func TestNext(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"first", "second_errno"}})
	c := b.attach(t)
	// What a plugin answers to Identify is its own pid.
	want(t, ask(t, c, testplugin.Identify), int64(b.plugins["first"].Status().PID), 0)
	want(t, ask(t, c, testplugin.Next), realPPID, 0)
	// The first fails: the second is not asked, and the verdict is the first's.
	want(t, ask(t, c, testplugin.Error), realPPID, 0)

	b.SetGeneration(b.newGeneration(options{plugins: []string{"second_errno", "first"}}))
	c = b.attach(t)
	want(t, ask(t, c, testplugin.Identify), int64(b.plugins["second_errno"].Status().PID), 0)
	want(t, ask(t, c, testplugin.Error), 0, syscall.EIO)
}

// TestRefused attaches a container that the plugin does not take.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, settings: map[string]string{"refuse": "it is Monday"}})
	want(t, ask(t, b.attach(t), testplugin.Return, 1), 0, syscall.EIO)
	b.log.await(t, 1, `"level":"error"`, "it is Monday", "does not serve this container")
	unserved := b.Status()[0].Unserved
	if len(unserved) != 1 || unserved[0].Plugin != "trial_errno" || !strings.Contains(unserved[0].Reason, "it is Monday") {
		t.Errorf("the status says %+v", unserved)
	}
}

// TestSwitchedSyscall is taken where its setting is on. Where it is not, and the filter is another container's too, the
// kernel answers.
func TestSwitchedSyscall(t *testing.T) {
	t.Parallel()
	on := newBench(t, options{settings: map[string]string{"switch": "seven c"}})
	want(t, on.attach(t).Call(t, unix.SYS_GETSID, 1<<30), 7, 0)
	off := newBench(t, options{})
	want(t, off.attach(t).Call(t, unix.SYS_GETSID, 1<<30), 0, unix.ESRCH)
}
