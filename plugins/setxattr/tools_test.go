package setxattr

import (
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestCopiesKeepAttributes has programs copy a file, which keep what they find in its list of attributes.
func TestCopiesKeepAttributes(t *testing.T) {
	const name, value = "trusted.glusterfs.gfid", "0123456789abcdef"
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{
		"attributes": []string{"trusted.glusterfs.*"}, "read": true,
	}))
	if got := sdktest.Errnos(c.Call(t, "mkdir /tmp/from", "mkdir /tmp/to", "write /tmp/from/f x",
		"sys setxattr s:/tmp/from/f s:"+name+" s:"+value+" 16 0").Lines(t)); got != "ok" {
		t.Fatal(got)
	}
	tar := c.InstallFromHost(t, "tar")
	for _, command := range [][]string{
		{c.InstallFromHost(t, "cp"), "-a", "/tmp/from/f", "/tmp/to/cp"},
		{c.InstallFromHost(t, "rsync"), "-aX", "/tmp/from/f", "/tmp/to/rsync"},
		{tar, "--xattrs", "--xattrs-include=*", "-C", "/tmp/from", "-cf", "/tmp/f.tar", "f"},
		{tar, "--xattrs", "--xattrs-include=*", "-C", "/tmp/to", "-xf", "/tmp/f.tar"},
	} {
		if r := c.Run(t, command[0], command[1:]...); r.ExitCode != 0 {
			t.Fatalf("%q: %s", command, r.Stderr)
		}
	}
	for _, copied := range []string{"cp", "rsync", "f"} {
		buf := make([]byte, 64)
		n, err := unix.Getxattr(filepath.Join(c.Rootfs(), "tmp/to", copied), name, buf)
		if err != nil || string(buf[:n]) != value {
			t.Errorf("the copy %s has %q, %v", copied, buf[:max(n, 0)], err)
		}
	}
}

// TestMemoryIsBounded fills a tmpfs, whose attributes are in the host's memory, charged to nobody.
func TestMemoryIsBounded(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, sdktest.WithMount(sdktest.Tmpfs(t, 0), "/mnt/host"), sdktest.WithSettings(map[string]any{
		"attributes": []string{"trusted.a.*", "trusted.b=1"}, "max_size": maxValue,
	}))
	counts := sdktest.Tally(c.Call(t, "write /mnt/host/f x", "repeat 520",
		"sys setxattr s:/mnt/host/f s:trusted.a.%i buf:65536 65536 0").Lines(t))
	if most := maxInMemory / maxValue; counts[0] == 0 || counts[0] > most || counts[0]+counts[unix.ENOSPC] != 520 {
		t.Errorf("got %v, want at most %d to succeed, and ENOSPC", counts, most)
	}
	if got := sdktest.Errnos(c.Call(t, "sys setxattr s:/mnt/host/f s:trusted.b s:1 1 0").Lines(t)); got != "ok" {
		t.Errorf("an attribute of one character gets %s", got)
	}
}
