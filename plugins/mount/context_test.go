package mount

import (
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestContextsEnd lets a superblock go when its context is forgotten.
func TestContextsEnd(t *testing.T) {
	var c contexts
	for range 2 * maxContexts {
		c.add(newContext(-1, nil))
	}
	if len(c.open) != maxContexts {
		t.Errorf("%d contexts are kept", len(c.open))
	}
	one := c.open[0]
	c.forgetAll()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		one.turn <- struct{}{}
		phase := one.phase
		<-one.turn
		if phase == closed || time.Now().After(deadline) {
			break
		}
	}
	if len(c.open) != 0 || one.phase != closed {
		t.Errorf("%d contexts are kept, phase %d", len(c.open), one.phase)
	}
}

// TestContextOutlivesItsHold changes a superblock by a context of fspick(2) that does not hold it any more.
func TestContextOutlivesItsHold(t *testing.T) {
	sdktest.RequireKernel(t, "6.10", "F_DUPFD_QUERY")
	defer func(life time.Duration) { contextLife = life }(contextLife)
	contextLife = 100 * time.Millisecond
	shifted := map[string]any{"allowed": []string{"ext4"}, "shift": true}
	c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), sdktest.WithSettings(shifted), sdktest.WithDeadline(patience))
	device := loop(t, ext4(t))
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	const wait = "sys nanosleep struct:8=0,8=500000000 null"
	flag := func(name string) string { return "sys fsconfig @0 0 s:" + name + " null 0" }
	const change, exclusive = "sys fsconfig @0 7 null null 0", "openfile /dev/disk O_RDONLY|O_EXCL"
	expect(t, c, "ok ok ok ok ok ok ok ok ok EBUSY", "value addfd value value value value errno", mountDisk,
		"fd fspick AT_FDCWD s:m 1", flag("ro"), change, wait, flag("rw"), change,
		"openfile m/x O_CREAT|O_WRONLY", "sys umount2 s:m 0", exclusive, change)

	// Nor does it hold it before the first change.
	expect(t, c, "ok ok ok ok ok EBUSY", "value addfd value errno", mountDisk, "fd fspick AT_FDCWD s:m 1", wait,
		"sys umount2 s:m 0", exclusive, flag("ro"), change)
}

// A context takes no more options than mount(2).
func TestOptionsOfAContext(t *testing.T) {
	sdktest.RequireKernel(t, "6.10", "F_DUPFD_QUERY")
	c, _ := oneDisk(t)
	result := c.Call(t, within("fd fsopen s:ext4 0", "repeat 900", "sys fsconfig @0 0 s:acl null 0")...)
	tally, room := sdktest.Tally(result.Lines(t)), maxData/len("acl=,")
	if tally[0] != room || tally[unix.EINVAL] != 900-room {
		t.Errorf("got %v, want %d options to be taken", tally, room)
	}
}
