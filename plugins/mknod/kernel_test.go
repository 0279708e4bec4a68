package main

import (
	"path"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

// pair compares the plugin with real root.
type pair struct{ *sdktest.Pair }

func newPair(t *testing.T, options ...sdktest.Option) pair {
	t.Helper()
	return pair{sdktest.NewPair(t, handler{}, options...)}
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

// own is the directory of a test.
func own(t *testing.T) string {
	return "/tmp/" + path.Base(t.Name())
}

// inOwnDirectory is the script in a new directory of the test's name.
func inOwnDirectory(t *testing.T, script []string) []string {
	return append([]string{"umask 022", "mkdir " + own(t), "chdir " + own(t)}, script...)
}

func TestDefaultDevices(t *testing.T) {
	tests := map[string]scripted{}
	for _, d := range []string{"5:1", "1:7", "1:3", "1:8", "5:0", "1:9", "1:5"} {
		tests["mknod-"+d] = scripted{[]string{"sys mknod s:node S_IFCHR|0666 dev:" + d, "stat node"}, "ok ok", "value"}
		tests["mknodat-"+d] = scripted{[]string{"sys mknodat AT_FDCWD s:node S_IFCHR|0600 dev:" + d, "stat node"}, "ok ok", "value"}
	}
	for _, d := range []string{"1:3", "1:5", "1:7", "1:8", "1:9"} {
		tests["open-"+d] = scripted{[]string{"sys mknod s:node S_IFCHR|0666 dev:" + d, "openfile node O_RDWR"}, "ok ok", "value"}
	}
	newPair(t).run(t, tests)
}

func TestListedDevices(t *testing.T) {
	p := newPair(t, sdktest.WithSettings(map[string]any{"devices": []string{"b 7:300", "c 1:3", "c 4095:1048575"}}))
	p.run(t, map[string]scripted{
		"block":   {[]string{"sys mknod s:loop S_IFBLK|0660 dev:7:300", "stat loop"}, "ok ok", "value"},
		"char":    {[]string{"sys mknod s:null S_IFCHR|0666 dev:1:3", "stat null"}, "ok ok", "value"},
		"highest": {[]string{"sys mknod s:last S_IFCHR|0666 dev:4095:1048575", "stat last"}, "ok ok", "value"},
	})
}

// refused runs a script in a container: the calls must get these errors, as they do without the plugin.
func refused(t *testing.T, options []sdktest.Option, want string, script ...string) {
	t.Helper()
	script = inOwnDirectory(t, script)
	got := sdktest.NewContainer(t, handler{}, options...).Call(t, script...)
	without := sdktest.NewContainer(t, nil, options...).Call(t, script...)
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if got.Stdout != without.Stdout {
		t.Errorf("the caller gets\n%swithout the plugin\n%s", got.Stdout, without.Stdout)
	}
	for _, c := range got.Calls {
		if c.Outcome.Kind != sdktest.Continue {
			t.Errorf("a call was answered by %v", c.Outcome)
		}
	}
}

func TestOtherDevices(t *testing.T) {
	refused(t, nil, "EPERM EPERM EPERM EPERM EPERM ENOENT",
		"sys mknod s:mem S_IFCHR|0666 dev:1:1",
		"sys mknod s:null S_IFBLK|0666 dev:1:3",
		"sys mknod s:disk S_IFBLK|0666 dev:8:0",
		"sys mknod s:null S_IFCHR|0666 dev:257:3",
		"sys mknod s:null S_IFCHR|0666 dev:1:259",
		"stat null")
	refused(t, []sdktest.Option{sdktest.WithSettings(map[string]any{"devices": []string{}})}, "EPERM ENOENT",
		"sys mknod s:null S_IFCHR|0666 dev:1:3", "stat null")
}

// TestWhiteout is made by the kernel, also for those without any privilege.
func TestWhiteout(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"root": {[]string{"sys mknod s:w S_IFCHR|0666 dev:0:0", "stat w"}, "ok ok", "continue"},
		"user": {[]string{"do chmod s:. 0777", "setuid 5", "sys mknod s:w S_IFCHR 0", "stat w"}, "ok ok", "continue"},
	})
}

// TestOtherTypes never leave the kernel: sdktest's filter takes every mknod, and says that the manifest did not want them.
func TestOtherTypes(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"types": {[]string{
			"sys mknod s:file S_IFREG|0644 0", "sys mknod s:zero 0644 0", "sys mknod s:fifo S_IFIFO|0644 0", "sys mknod s:socket S_IFSOCK|0644 0",
			"sys mknodat AT_FDCWD s:fifo2 S_IFIFO|0644 dev:1:3", "stat file", "stat fifo", "stat socket",
		}, "ok ok ok ok ok ok ok ok", ""},
		"no-types": {[]string{
			"sys mknod s:dir S_IFDIR|0755 0", "sys mknod s:link 0120777 0", "sys mknod s:all 0170666 0", "sys mknod s:odd 0030666 dev:1:3",
		}, "EPERM EINVAL EINVAL EINVAL", ""},
	})
}

// TestRegisters has garbage above the 16 bits of a mode, the 32 bits of a dev and of a descriptor.
func TestRegisters(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"mode": {[]string{"sys mknod s:n S_IFCHR|0666|0x7eadbeef00000000 dev:1:3", "stat n"}, "ok ok", "value"},
		"type": {[]string{"sys mknod s:n 0xffff0000|S_IFCHR|0666 dev:1:3", "stat n", "sys mknod s:f 0xffff0000|S_IFIFO|0666 dev:1:3", "stat f"},
			"ok ok ok ok", "value"},
		"dev": {[]string{"sys mknod s:n S_IFCHR|0666 0x7eadbeef00000103", "stat n"}, "ok ok", "value"},
		"dirfd": {[]string{"sys mknodat 0x7eadbeefffffff9c s:n S_IFCHR|0666 dev:1:3", "stat n", "sys mknodat 0x00000000ffffff9c s:m S_IFCHR|0666 dev:1:3"},
			"ok ok ok", "value value"},
	})
}

func TestModes(t *testing.T) {
	acl := "02000000" + "01000700ffffffff" + "04000700ffffffff" + "20000700ffffffff"
	masked := "02000000" + "01000600ffffffff" + "02000600" + "07000000" + "04000600ffffffff" + "10000600ffffffff" + "20000000ffffffff"
	newPair(t).run(t, map[string]scripted{
		"umask-0":   {[]string{"umask 0", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"umask-022": {[]string{"umask 022", "sys mknod s:n S_IFCHR|0777 dev:1:3", "stat n"}, "ok ok", "value"},
		"umask-077": {[]string{"umask 077", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"umask-777": {[]string{"umask 777", "sys mknod s:n S_IFCHR|07777 dev:1:3", "stat n"}, "ok ok", "value"},
		"no-bits":   {[]string{"sys mknod s:n S_IFCHR dev:1:3", "stat n"}, "ok ok", "value"},
		"setuid":    {[]string{"sys mknod s:n S_IFCHR|S_ISUID|0755 dev:1:3", "stat n"}, "ok ok", "value"},
		"setgid":    {[]string{"sys mknod s:n S_IFCHR|S_ISGID|0775 dev:1:3", "stat n"}, "ok ok", "value"},
		"sticky":    {[]string{"sys mknod s:n S_IFCHR|S_ISVTX|0755 dev:1:3", "stat n"}, "ok ok", "value"},
		"default-acl": {[]string{"umask 077", "do setxattr s:. s:system.posix_acl_default hex:" + acl + " 28 0",
			"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"default-acl-with-mask": {[]string{"umask 0", "do setxattr s:. s:system.posix_acl_default hex:" + masked + " 44 0",
			"sys mknod s:n S_IFCHR|0664 dev:1:3", "stat n", "sys getxattr s:n s:system.posix_acl_access buf:100 100"}, "ok ok ok", "value"},
	})
}

func TestOwners(t *testing.T) {
	const keepCapabilities = "do prctl PR_SET_SECUREBITS 4" // SECBIT_NO_SETUID_FIXUP
	newPair(t).run(t, map[string]scripted{
		"root": {[]string{"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"user": {[]string{keepCapabilities, "do chmod s:. 0777", "setgroups 9", "setgid 7", "setuid 8", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"},
			"ok ok", "value"},
		"filesystem-ids": {[]string{keepCapabilities, "do chmod s:. 0777", "sys setfsgid 17", "sys setfsuid 18", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"},
			"ok ok ok ok", "value"},
		"setgid-directory": {[]string{"do chown s:. 0 12", "do chmod s:. 02777", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"setgid-bit-kept": {[]string{"do chown s:. 0 12", "do chmod s:. 02777", "sys mknod s:n S_IFCHR|S_ISGID|0777 dev:1:3", "stat n"},
			"ok ok", "value"},
		"setgid-bit-lost": {[]string{"do chown s:. 0 12", "do chmod s:. 02777", "dropcap 4", "sys mknod s:n S_IFCHR|S_ISGID|0777 dev:1:3", "stat n"},
			"ok ok", "value"},
		"setgid-bit-of-a-member": {[]string{"do chown s:. 0 12", "do chmod s:. 02777", "dropcap 4", "setgroups 12",
			"sys mknod s:n S_IFCHR|S_ISGID|0777 dev:1:3", "stat n"}, "ok ok", "value"},
	})
}

// Test32Bit has callers of the machine's 32-bit architecture.
func Test32Bit(t *testing.T) {
	p := newPair(t)
	p.Call = (*sdktest.Container).Call32
	p.run(t, map[string]scripted{
		"mknod":      {[]string{"umask 027", "sys mknod s:n" + null, "stat n", "openfile n O_RDWR"}, "ok ok ok", "value"},
		"mknodat":    {[]string{"mkdir d", "open d O_PATH", "sys mknodat @0 s:n" + null, "stat d/n", "sys mknodat AT_FDCWD s:n" + null, "sys mknodat 99 s:n" + null}, "ok ok ok EBADF", "value value errno"},
		"mode":       {[]string{"sys mknod s:n 0xffff0000|S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"pointer":    {[]string{"sys mknod null" + null, "sys mknod bad" + null, "sys mknod protnone" + null, "sys mknod edge:name" + null}, "EFAULT EFAULT EFAULT EFAULT", "errno errno errno errno"},
		"long":       {[]string{"sys mknod longpath:4095" + null, "sys mknod longpath:4096" + null, "sys mknod long:256" + null}, "ok ENAMETOOLONG ENAMETOOLONG", "value errno errno"},
		"own-tmpfs":  {[]string{"unshare mount", "mount tmpfs none . 0 -", "chdir /tmp/own-tmpfs", "sys mknod s:n" + null, "stat n", "openfile n O_RDWR"}, "ok ok ok", "value"},
		"other-type": {[]string{"sys mknod s:f S_IFIFO|0666 dev:1:3", "sys mknod s:w S_IFCHR 0"}, "ok ok", "continue"},
		"proc":       {[]string{"thread", "sys mknod s:/proc/self/cwd/n" + null, "stat n"}, "ok ok", "value"},
	})
}
