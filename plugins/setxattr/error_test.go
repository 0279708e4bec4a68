package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// times repeats a word, with spaces.
func times(n int, word string) string {
	return strings.TrimSpace(strings.Repeat(word+" ", n))
}

// TestErrors have several faults at once: the first that the kernel finds is the error.
func TestErrors(t *testing.T) {
	long := strings.Repeat("a", 300)
	newPair(t).run(t, map[string]scripted{
		"flags":             {[]string{"sys setxattr bad bad bad 1 4", "sys setxattr s:d" + opaque + " s:y 1 -1", "sys fsetxattr 99" + opaque + " s:y 1 8", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=4 16", "sys getxattrat AT_FDCWD s:d 0" + opaque + " struct:p=buf:4,4=4,4=1 16"}, times(5, "EINVAL"), times(5, "continue")},
		"at-flags":          {[]string{"sys setxattrat AT_FDCWD s:d 1" + opaque + args, "sys setxattrat 99 bad AT_REMOVEDIR bad" + args, "sys removexattrat AT_FDCWD s:d 0x400 bad"}, times(3, "EINVAL"), times(3, "continue")},
		"name":              {[]string{"sys setxattr bad s: bad 1 0", "sys setxattr s:d s:" + long + " bad 1 0", "sys setxattr s:d s:trusted." + long[:248] + " bad 1 0", "sys setxattr bad null s:y 1 0", "sys setxattr bad edge:trusted s:y 1 0", "sys getxattr bad s: null 0", "sys removexattr bad bad"}, "ERANGE ERANGE ERANGE EFAULT EFAULT ERANGE EFAULT", times(7, "continue")},
		"value":             {[]string{"sys setxattr bad" + opaque + " bad 1 0", "sys setxattr s:no" + opaque + " null 1 0", "sys fsetxattr 99" + opaque + " protnone 1 0", "sys setxattrat 99 s:d 0" + opaque + " struct:p=bad,4=1,4=0 16"}, times(4, "EFAULT"), times(4, "continue")},
		"size":              {[]string{"sys setxattr bad" + opaque + " bad 65537 0", "sys setxattr s:d" + opaque + " s:y 0x100000001 0", "sys setxattrat AT_FDCWD bad 0" + opaque + " struct:p=bad,4=65537,4=0 16"}, "E2BIG E2BIG E2BIG", "continue"},
		"struct":            {[]string{"sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=0 15", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=0 4097", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=0,8=1 24", "sys setxattrat AT_FDCWD s:d 0" + opaque + " bad 16", "sys getxattrat AT_FDCWD s:d 0" + opaque + " protnone 24", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=0 0"}, "EINVAL E2BIG E2BIG EFAULT EFAULT EINVAL", times(6, "continue")},
		"descriptor":        {[]string{"open d O_PATH", "sys fsetxattr 99" + opaqueY, "sys fsetxattr -1" + opaqueY, "sys fsetxattr @0" + opaqueY, "sys fgetxattr @0" + getInto, "sys fremovexattr @0" + opaque, "sys setxattrat @0 s: AT_EMPTY_PATH" + opaque + args, "sys setxattrat 99 null AT_EMPTY_PATH" + opaque + args, "sys setxattrat -5 s:d 0" + opaque + args}, times(8, "EBADF"), times(8, "continue")},
		"path-pointer":      {[]string{"sys setxattr null" + opaqueY, "sys setxattr bad" + opaqueY, "sys lsetxattr protnone" + opaqueY, "sys setxattr edge:d" + opaqueY, "sys setxattrat AT_FDCWD null 0" + opaque + args, "sys setxattrat AT_FDCWD bad AT_EMPTY_PATH" + opaque + args}, times(6, "EFAULT"), times(6, "continue")},
		"empty-path":        {[]string{"sys setxattr s:" + opaqueY, "sys lgetxattr s:" + getInto, "sys setxattrat AT_FDCWD s: 0" + opaque + args, "sys removexattrat 99 s: AT_SYMLINK_NOFOLLOW" + opaque}, times(4, "ENOENT"), times(4, "continue")},
		"long-path":         {[]string{"sys setxattr longpath:4096" + opaqueY, "sys setxattr longpath:9000" + opaqueY, "sys setxattr long:256" + opaqueY}, times(3, "ENAMETOOLONG"), times(3, "continue")},
		"buffer":            {[]string{"sys setxattr s:d" + opaqueY, "sys getxattr s:d" + opaque + " bad 4", "sys getxattr s:d" + opaque + " protnone 1", "sys getxattrat AT_FDCWD s:d 0" + opaque + " struct:p=bad,4=1,4=0 16"}, "ok EFAULT EFAULT EFAULT", "value errno errno errno"},
		"no-attributes":     {[]string{"mount ramfs none d 0 -", "open d O_RDONLY", "sys setxattr s:d" + opaqueY, "sys fsetxattr @0" + opaqueY, "sys getxattr s:d" + getInto, "sys removexattr s:d" + opaque}, times(4, "ENOTSUP"), times(4, "errno")},
		"memfd":             {[]string{"fd memfd_create s:m 0", "sys fsetxattr @0" + opaqueY, "sys fgetxattr @0" + getInto}, "ok ok", "value value"},
		"working-directory": {[]string{"chdir d", "sys fsetxattr AT_FDCWD" + opaqueY, "sys fgetxattr AT_FDCWD" + getInto, "sys fremovexattr AT_FDCWD" + opaque, "sys removexattrat AT_FDCWD s: AT_EMPTY_PATH" + opaque, "sys fgetxattr AT_FDCWD s: null 0", "sys fsetxattr AT_FDCWD" + opaque + " s:y 1 4"}, "ok ok EBADF EBADF ERANGE EINVAL", "value value continue continue continue continue"},
	})
}

// TestLeftToKernel are calls that real root could make, and that the plugin does not.
func TestLeftToKernel(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading)
	for name, test := range map[string]struct {
		script []string
		want   string
		kinds  string
	}{
		"value":        {[]string{"sys setxattr s:d" + opaque + " s:z 1 0", "sys setxattr s:d" + opaque + " hex:00 1 0", "sys setxattr s:d" + opaque + " s:Y 1 0", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:n,4=1,4=0 16"}, times(4, "EPERM"), times(4, "continue")},
		"name":         {[]string{"sys setxattr s:d s:trusted.overlay.opaqu s:y 1 0", "sys setxattr s:d s:trusted.overlay.opaque2 s:y 1 0", "sys setxattr s:d s:trusted. s:y 1 0", "sys setxattr s:d s:Trusted.overlay.opaque s:y 1 0", "sys setxattr s:d s:trusted.overlay.redirect s:y 1 0"}, "EPERM EPERM EPERM ENOTSUP EPERM", times(5, "continue")},
		"larger-value": {[]string{"sys setxattr s:d" + opaque + " s:yy 2 0", "sys setxattr s:d" + opaque + " null 0 0", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:yy,4=2,4=0 16"}, times(3, "EPERM"), "continue"},
		"others":       {[]string{"sys setxattr s:f s:user.a s:y 1 0", "sys getxattr s:f s:user.a buf:1 1", "sys removexattr s:f s:user.a", "sys setxattr s:f s:security.a s:y 1 0", "sys setxattr s:f s:other.a s:y 1 0"}, "ok ok ok EPERM ENOTSUP", times(5, "continue")},
		"read":         {[]string{"sys getxattr s:f s:trusted.a buf:1 1", "sys removexattr s:f s:trusted.a"}, "ENODATA EPERM", "continue continue"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.Call(t, inOwnDirectory(t, test.script)...)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != test.want {
				t.Errorf("the caller gets %s, want %s", outcome, test.want)
			}
			if got.Kinds() != test.kinds {
				t.Errorf("the calls were answered by %q, want %q", got.Kinds(), test.kinds)
			}
		})
	}
}

// TestNotRead has no call notified that reads or removes.
func TestNotRead(t *testing.T) {
	got := sdktest.NewContainer(t, handler{}).Call(t, inOwnDirectory(t, []string{"sys setxattr s:d" + opaqueY, "open d O_RDONLY",
		"sys getxattr s:d" + getInto, "sys lgetxattr s:d" + getInto, "sys fgetxattr @0" + getInto, "sys getxattrat AT_FDCWD s:d 0" + getArgs,
		"sys removexattr s:d" + opaque, "sys lremovexattr s:d" + opaque, "sys fremovexattr @0" + opaque, "sys removexattrat AT_FDCWD s:d 0" + opaque})...)
	if outcome, want := sdktest.Errnos(got.Lines(t)), "ok "+times(4, "ENODATA")+" "+times(4, "EPERM"); outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if len(got.Calls) != 1 {
		t.Errorf("%d calls were notified, want 1", len(got.Calls))
	}
}

// TestListed has settings of its own: the longest name, and a value that others would have to escape.
func TestListed(t *testing.T) {
	name := "trusted." + strings.Repeat("n", 247)
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"attributes": []string{name + "==", "trusted.a=1"}, "read": true}))
	got := c.Call(t, "write /tmp/f x", "sys setxattr s:/tmp/f s:"+name+" s:= 1 0", "sys getxattr s:/tmp/f s:"+name+" buf:2 2", "sys setxattr s:/tmp/f s:trusted.a s:1 1 0",
		"sys setxattr s:/tmp/f"+opaqueY).Lines(t)
	if outcome, want := sdktest.Errnos(got), "ok ok ok EPERM"; outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if value := strconv.Quote(string(got[1].Bufs[0])); value != `"=\x00"` {
		t.Errorf("the value is %s", value)
	}
}
