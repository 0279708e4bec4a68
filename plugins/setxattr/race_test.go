package setxattr

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestManyThreads set attributes of different files, and of one: it is new to one of them.
func TestManyThreads(t *testing.T) {
	const threads, each = 16, 4
	for name, setup := range map[string][]string{
		"by-name":  {"mkdir /tmp/p", "chdir /tmp/p"},
		"by-power": {"do mkdir s:/tmp/p 0700", "do chown s:/tmp/p 5 5", "chdir /"},
	} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, handler{}, reading)
			all := strconv.Itoa(threads * each)
			got := c.Call(t, append(setup, "repeat "+all, "sys mkdirat AT_FDCWD s:/tmp/p/%i 0755",
				"threads "+strconv.Itoa(threads), "repeat "+strconv.Itoa(each), "sys setxattr s:/tmp/p/%i"+opaqueY,
				"repeat "+all, "sys getxattr s:/tmp/p/%i"+getInto)...).Lines(t)
			if counts := sdktest.Tally(got); counts[0] != 3*threads*each {
				t.Errorf("different files: %v", counts)
			}
			got = c.Call(t, "mkdir /tmp/p/same", "threads "+strconv.Itoa(threads),
				"sys setxattr s:/tmp/p/same"+opaque+" s:y 1 XATTR_CREATE").Lines(t)
			if counts := sdktest.Tally(got); counts[0] != 1 || counts[unix.EEXIST] != threads-1 {
				t.Errorf("one file: %v", counts)
			}
		})
	}
}

func TestManyProcesses(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	program := c.Install(t, sdktest.Caller(t))
	c.Call(t, "mkdir /tmp/same")
	var processes []*sdktest.Process
	for i := range 16 {
		own := "/tmp/" + strconv.Itoa(i)
		processes = append(processes, c.Start(t, program, "mkdir "+own, "open "+own+" O_RDONLY",
			"sys setxattr s:/tmp/same"+opaque+" s:y 1 XATTR_CREATE", "sys fsetxattr @0"+opaqueY))
	}
	first := 0
	for _, p := range processes {
		got := p.Wait(t).Lines(t)
		if got[0].Errno == 0 {
			first++
		} else if got[0].Errno != unix.EEXIST {
			t.Errorf("the one file: %v", got[0].Errno)
		}
		if got[1].Errno != 0 {
			t.Errorf("a file of its own: %v", got[1].Errno)
		}
	}
	if first != 1 {
		t.Errorf("%d of %d were the first", first, len(processes))
	}
}

// TestCallerKilled kills the caller between the plugin's work and the answer. That leaves what the kernel's own
// setxattr(2) would: the attribute.
func TestCallerKilled(t *testing.T) {
	for name, call := range map[string]string{"path": "sys setxattr s:/tmp/d" + opaqueY, "descriptor": "sys fsetxattr 3" + opaqueY} {
		t.Run(name, func(t *testing.T) {
			hold := sdktest.NewHold(handler{}, sdktest.AfterWork, nil)
			c := sdktest.NewContainer(t, hold)
			hold.KillCaller(t, c, "mkdir /tmp/d", "open /tmp/d O_RDONLY", call)
			if got := sdktest.Errnos(c.Call(t, "sys setxattr s:/tmp/d"+opaque+" s:y 1 XATTR_CREATE").Lines(t)); got != "EEXIST" {
				t.Errorf("afterwards: %s", got)
			}
		})
	}
}

// TestSwapped exchanges a directory of the caller with one of the host, or with a link to a descriptor of the plugin in
// the host's procfs, while attributes are set: the host's gets none.
func TestSwapped(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chown(outside, sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	descriptor := strconv.Itoa(sdktest.PluginDescriptor(t, outside))
	for name, test := range map[string]struct {
		script []string
		link   string
	}{
		"by-name":    {nil, ""},
		"by-power":   {[]string{"do chmod s:/tmp/p 0700", "do chown s:/tmp/p 5 5"}, ""},
		"link":       {nil, "/mnt/host/self/fd/" + descriptor},
		"own-link":   {nil, "/proc/self/fd/" + descriptor},
		"power-link": {[]string{"do chmod s:/tmp/p 0700", "do chown s:/tmp/p 5 5"}, "/mnt/host/thread-self/fd/" + descriptor},
	} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), reading, sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
			hostDirectory(t, c, "/tmp/p", sdktest.HostID, sdktest.HostID)
			hosts := hostDirectory(t, c, "/tmp/p/hosts", 0, 0)
			mine := hostDirectory(t, c, "/tmp/p/mine", sdktest.HostID, sdktest.HostID)
			if test.link != "" {
				if err := errors.Join(os.Remove(hosts), os.Symlink(test.link, hosts)); err != nil {
					t.Fatal(err)
				}
			}
			stop := sdktest.Swap(t, mine, hosts)
			got := c.Call(t, append(test.script, "repeat 40", "sys setxattr s:/tmp/p/mine"+opaqueY)...).Lines(t)
			stop()
			if counts := sdktest.Tally(got); counts[0]+counts[unix.EPERM]+counts[unix.ENOENT] != len(got) {
				t.Errorf("got %v", counts)
			}
			for _, dir := range []string{mine, hosts, outside} {
				var st unix.Stat_t
				if err := unix.Lstat(dir, &st); err != nil {
					t.Fatal(err)
				}
				if got := attribute(dir); got != none && (st.Uid == 0 || dir == outside) {
					t.Errorf("%s has the attribute %s", dir, got)
				}
			}
		})
	}
}

// TestNothingLeft counts descriptors.
func TestNothingLeft(t *testing.T) {
	var before int
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			sdktest.NewContainer(t, handler{}, reading).Call(t, "chdir /tmp", "mkdir d", "open d O_RDONLY", "open d O_PATH",
				"sys setxattr s:d"+opaqueY, "sys fsetxattr @0"+opaqueY, "sys fsetxattr @1"+opaqueY,
				"sys setxattrat @1 s:. 0"+opaqueAt, "sys setxattrat @0 s:no 0"+opaqueAt,
				"sys setxattr s:/proc/self/fd/3"+opaqueY, "sys setxattr s:/proc/self/fd/9"+opaqueY)
		})
		if name == "first" {
			before = sdktest.PluginDescriptors(t, handler{})
		}
	}
	sdktest.AwaitPluginDescriptors(t, handler{}, before)
}
