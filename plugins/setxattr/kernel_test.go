package main

import (
	"path"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

// reading switches the calls on that read and remove.
var reading = sdktest.WithSettings(map[string]any{"read": true})

// pair compares the plugin, reading too, with real root.
type pair struct{ *sdktest.Pair }

func newPair(t *testing.T) pair {
	t.Helper()
	p := sdktest.NewPair(t, handler{}, reading)
	p.Alike = withoutPointers
	return pair{p}
}

// scripted is a script, the errors that real root gets from its calls ("ok EEXIST"), and how those that are notified are
// answered ("value errno").
type scripted struct {
	script []string
	want   string
	kinds  string
}

// run compares the scripts, each in a directory of its own.
func (p pair) run(t *testing.T, tests map[string]scripted) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			p.Compare(t, test.want, test.kinds, inOwnDirectory(t, test.script)...)
		})
	}
}

// withoutPointers leaves out the pointer with which struct xattr_args begins: it is another in each process.
func withoutPointers(lines []sdktest.Line) []sdktest.Line {
	for _, l := range lines {
		for _, b := range l.Bufs {
			if len(b) >= argsSize {
				clear(b[:8])
			}
		}
	}
	return lines
}

// own is the directory of a test.
func own(t *testing.T) string {
	return "/tmp/" + path.Base(t.Name())
}

// inOwnDirectory is the script in a new directory of the test's name, with a directory d and a file f in it.
func inOwnDirectory(t *testing.T, script []string) []string {
	return append([]string{"umask 022", "mkdir " + own(t), "chdir " + own(t), "mkdir d", "write f x"}, script...)
}

// Parts of scripts: the listed attribute, with its value and flags, as the calls take them.
const (
	opaque  = " s:trusted.overlay.opaque"
	opaqueY = opaque + " s:y 1 0"
	args    = " struct:p=s:y,4=1,4=0 16"
	getInto = opaque + " buf:4 4"
	getArgs = opaque + " struct:p=buf:4,4=4,4=0 16"
)

func TestForms(t *testing.T) {
	tests := map[string]scripted{
		"setxattr":          {[]string{"sys setxattr s:d" + opaqueY, "sys getxattr s:d" + getInto, "sys removexattr s:d" + opaque, "sys getxattr s:d" + getInto}, "ok ok ok ENODATA", "value value value errno"},
		"lsetxattr":         {[]string{"sys lsetxattr s:d" + opaqueY, "sys lgetxattr s:d" + getInto, "sys lremovexattr s:d" + opaque, "sys lgetxattr s:d" + getInto}, "ok ok ok ENODATA", "value value value errno"},
		"fsetxattr":         {[]string{"open d O_RDONLY", "sys fsetxattr @0" + opaqueY, "sys fgetxattr @0" + getInto, "sys fremovexattr @0" + opaque, "sys fgetxattr @0" + getInto}, "ok ok ok ENODATA", "value value value errno"},
		"setxattrat":        {[]string{"sys setxattrat AT_FDCWD s:d 0" + opaque + args, "sys getxattrat AT_FDCWD s:d 0" + getArgs, "sys removexattrat AT_FDCWD s:d 0" + opaque, "sys getxattrat AT_FDCWD s:d 0" + getArgs}, "ok ok ok ENODATA", "value value value errno"},
		"x":                 {[]string{"sys setxattr s:d" + opaque + " s:x 1 0", "sys getxattr s:d" + getInto}, "ok ok", "value value"},
		"file":              {[]string{"sys setxattr s:f" + opaqueY, "sys getxattr s:f" + getInto, "sys removexattr s:f" + opaque}, "ok ok ok", "value value value"},
		"over":              {[]string{"sys setxattr s:d" + opaqueY, "sys setxattr s:d" + opaque + " s:x 1 0", "sys getxattr s:d" + getInto}, "ok ok ok", "value value value"},
		"create":            {[]string{"sys setxattr s:d" + opaque + " s:y 1 XATTR_CREATE", "sys setxattr s:d" + opaque + " s:x 1 XATTR_CREATE", "sys getxattr s:d" + getInto}, "ok EEXIST ok", "value errno value"},
		"replace":           {[]string{"sys setxattr s:d" + opaque + " s:y 1 XATTR_REPLACE", "sys setxattr s:d" + opaqueY, "sys setxattr s:d" + opaque + " s:x 1 XATTR_REPLACE", "sys getxattr s:d" + getInto}, "ENODATA ok ok ok", "errno value value value"},
		"create-at":         {[]string{"sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=XATTR_CREATE 16", "sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=XATTR_CREATE 16", "sys setxattrat AT_FDCWD s:f 0" + opaque + " struct:p=s:y,4=1,4=XATTR_REPLACE 16"}, "ok EEXIST ENODATA", "value errno errno"},
		"both-flags":        {[]string{"sys setxattr s:d" + opaque + " s:y 1 XATTR_CREATE|XATTR_REPLACE", "sys setxattr s:d" + opaqueY, "sys setxattr s:d" + opaque + " s:y 1 XATTR_CREATE|XATTR_REPLACE"}, "ENODATA ok EEXIST", "errno value errno"},
		"size-of-value":     {[]string{"sys setxattr s:d" + opaqueY, "sys getxattr s:d" + opaque + " null 0", "sys getxattr s:d" + opaque + " bad 0", "sys fgetxattr 99" + opaque + " null 0", "sys getxattr s:d" + opaque + " buf:1 1", "sys getxattrat AT_FDCWD s:d 0" + opaque + " struct:p=null,4=0,4=0 16"}, "ok ok ok EBADF ok ok", "value value value continue value value"},
		"removed-twice":     {[]string{"sys setxattr s:d" + opaqueY, "sys removexattr s:d" + opaque, "sys removexattr s:d" + opaque, "sys lremovexattr s:f" + opaque}, "ok ok ENODATA ENODATA", "value value errno errno"},
		"garbage-in-flags":  {[]string{"sys setxattr s:d" + opaque + " s:y 1 0xdead00000001", "sys setxattr s:d" + opaque + " s:y 1 0xdead00000001"}, "ok EEXIST", "value errno"},
		"larger-struct":     {[]string{"sys setxattrat AT_FDCWD s:d 0" + opaque + " struct:p=s:y,4=1,4=0,8=0,1=0 25", "sys getxattrat AT_FDCWD s:d 0" + opaque + " struct:p=buf:4,4=4,4=0,8=0 24"}, "ok ok", "value value"},
		"empty-path":        {[]string{"open d O_RDONLY", "sys setxattrat @0 s: AT_EMPTY_PATH" + opaque + args, "sys getxattrat @0 null AT_EMPTY_PATH" + getArgs, "sys removexattrat @0 s: AT_EMPTY_PATH|AT_SYMLINK_NOFOLLOW" + opaque, "sys getxattr s:d" + getInto}, "ok ok ok ENODATA", "value value value errno"},
		"empty-path-of-cwd": {[]string{"chdir d", "sys setxattrat AT_FDCWD s: AT_EMPTY_PATH" + opaque + args, "sys getxattr s:../d" + getInto, "sys setxattrat AT_FDCWD null AT_EMPTY_PATH" + opaque + " struct:p=s:x,4=1,4=0 16", "sys getxattr s:." + getInto}, "ok ok ok ok", "value value value value"},
		"path-and-flag":     {[]string{"open . O_PATH", "sys setxattrat @0 s:d AT_EMPTY_PATH" + opaque + args, "sys getxattr s:d" + getInto}, "ok ok", "value value"},
	}
	newPair(t).run(t, tests)
}

// TestI386 has calls with the numbers, registers and pointers of 32 bits.
func TestI386(t *testing.T) {
	p := newPair(t)
	p.Call = (*sdktest.Container).Call32
	p.run(t, map[string]scripted{
		"setxattr":      {[]string{"sys setxattr s:d" + opaqueY, "sys getxattr s:d" + getInto, "sys removexattr s:d" + opaque, "sys getxattr s:d" + getInto}, "ok ok ok ENODATA", "value value value errno"},
		"lsetxattr":     {[]string{"sys lsetxattr s:d" + opaqueY, "sys lgetxattr s:d" + getInto, "sys lremovexattr s:d" + opaque}, "ok ok ok", "value value value"},
		"fsetxattr":     {[]string{"open d O_RDONLY", "sys fsetxattr @0" + opaqueY, "sys fgetxattr @0" + getInto, "sys fremovexattr @0" + opaque}, "ok ok ok", "value value value"},
		"setxattrat":    {[]string{"sys setxattrat AT_FDCWD s:d 0" + opaque + args, "sys getxattrat AT_FDCWD s:d 0" + getArgs, "sys removexattrat AT_FDCWD s:d 0" + opaque}, "ok ok ok", "value value value"},
		"flags":         {[]string{"sys setxattr s:d" + opaque + " s:y 1 XATTR_REPLACE", "sys setxattr s:d" + opaque + " s:y 1 4"}, "ENODATA EINVAL", "errno continue"},
		"size-of-value": {[]string{"sys setxattr s:d" + opaqueY, "sys getxattr s:d" + opaque + " null 0"}, "ok ok", "value value"},
		"pointers":      {[]string{"sys setxattr bad" + opaqueY, "sys setxattr s:d bad s:y 1 0", "sys setxattr s:d" + opaque + " protnone 1 0", "sys setxattr s:d" + opaqueY, "sys getxattr s:d" + opaque + " bad 1"}, "EFAULT EFAULT EFAULT ok EFAULT", "continue continue continue value errno"},
	})
}

// named puts the tests' names in the place of %.
func named(tests map[string]scripted) map[string]scripted {
	for name, test := range tests {
		for i, command := range test.script {
			test.script[i] = strings.ReplaceAll(command, "%", name)
		}
	}
	return tests
}
