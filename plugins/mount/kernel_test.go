package main

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// pair compares the plugin with real root. Each has a device of its own, of equal contents, by the name /dev/disk.
type pair struct{ *sdktest.Pair }

// newPair makes both. The filesystem's options are those of mkfs.
func newPair(t *testing.T, settings map[string]any, mkfs ...string) pair {
	t.Helper()
	p := sdktest.NewPair(t, handler{}, sdktest.WithSettings(with(settings)))
	p.Alike = alike
	putNode(t, p.Container, loop(t, ext4(t, mkfs...)), "dev/disk", 0o600, sdktest.HostID)
	putNode(t, p.Host, loop(t, ext4(t, mkfs...)), "dev/disk", 0o600, 0)
	return pair{p}
}

// with are the settings with ext4 allowed.
func with(settings map[string]any) map[string]any {
	all := map[string]any{"allowed": []string{"ext4", "ext2"}}
	maps.Copy(all, settings)
	return all
}

// scripted is a script, the errors that real root gets from its calls ("ok EEXIST"), and how those that are notified are
// answered ("value errno").
type scripted struct {
	script []string
	want   string
	kinds  string
}

// run compares the scripts, each in a directory of its own and with a mount namespace of its own, and what is mounted in the
// end.
func (p pair) run(t *testing.T, tests map[string]scripted) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			dir := "/tmp/" + path.Base(t.Name())
			script := append([]string{"unshare mount", "umask 022", "mkdir " + dir, "chdir " + dir, "mkdir m"}, test.script...)
			p.Compare(t, test.want+" ok", test.kinds, andMounts(script)...)
		})
	}
}

// andMounts adds to a script that mountinfo is printed.
func andMounts(script []string) []string {
	kept := 0
	for _, command := range script {
		if strings.HasPrefix(command, "open ") || strings.HasPrefix(command, "fd ") {
			kept++
		}
	}
	return append(script, "open /proc/thread-self/mountinfo O_RDONLY", fmt.Sprintf("sys read @%d buf:16384 16384", kept))
}

// overflowID is of owners that a user namespace does not map (/proc/sys/fs/overflowuid, user_namespaces(7)).
const overflowID = 65534

// alike leaves of the mountinfo in the last line the mounts of filesystems of devices. The host's root, to whom their files
// belong, is the overflow id in the container.
func alike(lines []sdktest.Line) []sdktest.Line {
	for i := range lines {
		if l := &lines[i]; l.UID == overflowID && l.GID == overflowID {
			l.UID, l.GID = 0, 0
		}
	}
	last := &lines[len(lines)-1]
	last.Bufs[0], last.Ret = sdktest.Buffer(deviceMounts(string(last.Bufs[0][:last.Ret]))), 0
	return lines
}

var numbers = regexp.MustCompile(`^\d+ \d+ \d+:\d+ `)

// deviceMounts are the mounts whose source is below /dev, without their numbers, and without what the plugin adds.
func deviceMounts(mountinfo string) string {
	var b strings.Builder
	for line := range strings.Lines(mountinfo) {
		if !strings.Contains(line, "- ext4 ") || strings.Contains(line, "sdktest") {
			continue
		}
		line = numbers.ReplaceAllString(line, "")
		line = strings.ReplaceAll(line, ",nosuid,nodev", "")
		line = strings.ReplaceAll(line, ",errors=remount-ro", "")
		b.WriteString(line)
	}
	return b.String()
}

func TestMount(t *testing.T) {
	newPair(t, nil).run(t, map[string]scripted{
		"plain":          {[]string{"sys mount s:/dev/disk s:m s:ext4 0 null", "stat m/lost+found"}, "ok ok", "value"},
		"absolute":       {[]string{"sys mount s:/dev/disk s:/tmp/absolute/m s:ext4 0 s:", "stat m/lost+found"}, "ok ok", "value"},
		"other driver":   {[]string{"sys mount s:/dev/disk s:m s:ext2 MS_RDONLY null"}, "EINVAL", "errno"},
		"here":           {[]string{"chdir m", "sys mount s:/dev/disk s:. s:ext4 0 null"}, "ok", "value"},
		"dots":           {[]string{"sys mount s:../../dev/./disk s:m/../m/. s:ext4 0 null", "stat m/lost+found"}, "ok ok", "value"},
		"slash":          {[]string{"sys mount s:/dev/disk s:m/ s:ext4 0 null"}, "ok", "value"},
		"source slash":   {[]string{"sys mount s:/dev/disk/ s:m s:ext4 0 null"}, "ENOTDIR", "errno"},
		"source link":    {[]string{"do symlink s:/dev/disk s:disklink", "sys mount s:disklink s:m s:ext4 0 null"}, "ok", "value"},
		"long source":    {[]string{"sys mount s:" + strings.Repeat("./", 100) + "../../dev/disk s:m s:ext4 0 null"}, "ok", "value"},
		"target link":    {[]string{"do symlink s:m s:l", "sys mount s:/dev/disk s:l s:ext4 0 null", "stat m/lost+found"}, "ok ok", "value"},
		"parent link":    {[]string{"do symlink s:.. s:up", "sys mount s:/dev/disk s:up/source/m s:ext4 0 null"}, "ENOENT", "errno"},
		"proc target":    {[]string{"open m O_PATH", "sys mount s:/dev/disk s:/proc/self/fd/3 s:ext4 0 null", "stat m/lost+found"}, "ok ok", "value"},
		"proc source":    {[]string{"open /dev/disk O_PATH", "sys mount s:/proc/self/fd/3 s:m s:ext4 0 null"}, "ok", "value"},
		"magic":          {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_MGC_VAL null"}, "ok", "value"},
		"magic flags":    {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_MGC_VAL|MS_RDONLY|MS_NOEXEC null"}, "ok", "value"},
		"read-only":      {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_RDONLY null", "openfile m/x O_CREAT|O_WRONLY"}, "ok EROFS", "value"},
		"read-only data": {[]string{"sys mount s:/dev/disk s:m s:ext4 0 s:ro", "openfile m/x O_CREAT|O_WRONLY"}, "ok EROFS", "value"},
		"flags":          {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_NOSUID|MS_NODEV|MS_NOEXEC|MS_SILENT|MS_NOATIME|16|128 null"}, "ok", "value"},
		"nodiratime":     {[]string{"sys mount s:/dev/disk s:m s:ext4 2048 null"}, "ok", "value"},
		"relatime":       {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_RELATIME null"}, "ok", "value"},
		"strictatime":    {[]string{"sys mount s:/dev/disk s:m s:ext4 0x1000000 null"}, "ok", "value"},
		"strict wins":    {[]string{"sys mount s:/dev/disk s:m s:ext4 0x1000000|MS_NOATIME null"}, "ok", "value"},
		"lazytime":       {[]string{"sys mount s:/dev/disk s:m s:ext4 0x2000000 null"}, "ok", "value"},
		"nosymfollow":    {[]string{"sys mount s:/dev/disk s:m s:ext4 256 null"}, "ok", "value"},
		"rec":            {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_REC null"}, "ok", "value"},
		"options":        {[]string{"sys mount s:/dev/disk s:m s:ext4 0 s:commit=7,,data=ordered,=x,nodelalloc,"}, "ok", "value"},
		"last word":      {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_RDONLY s:ro,rw"}, "ok", "value"},
		"data source":    {[]string{"sys mount null s:m s:ext4 0 s:acl,source=/dev/disk"}, "ok", "value"},
		"two sources":    {[]string{"sys mount s:/dev/disk s:m s:ext4 0 s:source=/dev/disk"}, "EINVAL", "errno"},
		"twice":          {[]string{"sys mount s:/dev/disk s:m s:ext4 0 null", "sys mount s:/dev/disk s:m s:ext4 0 null", "mkdir n", "sys mount s:/dev/disk s:n s:ext4 0 null"}, "ok EBUSY ok", "value errno value"},
		"twice ro":       {[]string{"sys mount s:/dev/disk s:m s:ext4 0 null", "mkdir n", "sys mount s:/dev/disk s:n s:ext4 MS_RDONLY null"}, "ok EBUSY", "value errno"},
		"stacked":        {[]string{"mount tmpfs none m 0 -", "sys mount s:/dev/disk s:m s:ext4 0 null", "stat m/lost+found"}, "ok ok", "continue value"},
		"umount":         {[]string{"sys mount s:/dev/disk s:m s:ext4 0 null", "sys umount2 s:m 0", "sys mount s:/dev/disk s:m s:ext4 MS_RDONLY null"}, "ok ok ok", "value value"},
		"thread":         {[]string{"thread", "sys mount s:/dev/disk s:m s:ext4 0 null"}, "ok", "value"},
		"leader gone":    {[]string{"fork", "leader-exits", "sys mount s:/dev/disk s:/tmp/leader_gone/m s:ext4 0 null"}, "ok", "value"},
		"chroot": {[]string{"mkdir r", "mkdir r/m", "mkdir r/dev", "mkdir r/proc", "mount proc proc r/proc 0 -", "write r/dev/disk x", "mount - /dev/disk r/dev/disk MS_BIND -",
			"chroot r", "chdir /", "sys mount s:/dev/disk s:/m s:ext4 0 null", "stat /m/lost+found"}, "ok ok", "continue value"},
	})
}

func TestErrors(t *testing.T) {
	newPair(t, nil).run(t, map[string]scripted{
		"pointers": {[]string{
			"sys mount bad s:m s:ext4 0 null", "sys mount s:/dev/disk bad s:ext4 0 null", "sys mount s:/dev/disk null s:ext4 0 null",
			"sys mount s:/dev/disk s:m s:ext4 0 bad", "sys mount s:/dev/disk s:m s:ext4 0 protnone", "sys mount protnone s:m s:ext4 0 null",
			"sys mount edge:/dev/disk s:m s:ext4 0 null", "sys mount s:/dev/disk edge:m s:ext4 0 null"},
			"EFAULT EFAULT EFAULT EFAULT EFAULT EFAULT EFAULT EFAULT", strings.TrimSpace(strings.Repeat("errno ", 8))},
		"type": {[]string{"sys mount s:/dev/disk s:m bad 0 null", "sys mount s:/dev/disk s:m null 0 null", "sys mount s:/dev/disk s:m s: 0 null",
			"sys mount s:/dev/disk s:m s:nonesuch 0 null", "sys mount s:/dev/disk s:m long:5000 0 null", "sys mount s:/dev/disk s:m s:ext4.x 0 null"},
			"EFAULT EINVAL ENODEV ENODEV EINVAL ENODEV", strings.TrimSpace(strings.Repeat("continue ", 6))},
		"source": {[]string{"sys mount null s:m s:ext4 0 null", "sys mount s: s:m s:ext4 0 null", "sys mount s:nowhere s:m s:ext4 0 null",
			"sys mount s:m s:m s:ext4 0 null", "write f x", "sys mount s:f s:m s:ext4 0 null", "sys mount s:f/x s:m s:ext4 0 null", "sys mount longpath:4097 s:m s:ext4 0 null",
			"sys mount long:300 s:m s:ext4 0 null"},
			"EINVAL EINVAL ENOENT ENOTBLK ENOTBLK ENOTDIR EINVAL ENAMETOOLONG", strings.TrimSpace(strings.Repeat("errno ", 8))},
		"target": {[]string{"sys mount s:/dev/disk s:nowhere s:ext4 0 null", "sys mount s:/dev/disk s: s:ext4 0 null", "write f x",
			"sys mount s:/dev/disk s:f s:ext4 0 null", "sys mount s:/dev/disk s:f/ s:ext4 0 null", "sys mount s:/dev/disk longpath:4096 s:ext4 0 null",
			"sys mount s:/dev/disk longpath:4095 s:ext4 0 null", "do symlink s:loop s:loop", "sys mount s:/dev/disk s:loop s:ext4 0 null"},
			"ENOENT ENOENT ENOTDIR ENOTDIR ENAMETOOLONG ENOENT ELOOP", strings.TrimSpace(strings.Repeat("errno ", 7))},
		"order": {[]string{"sys mount s:nowhere s:nowhere2 s:ext4 0 s:nonsense", "sys mount s:nowhere s:m s:ext4 0 s:nonsense", "sys mount bad s:m s:ext4 0 bad",
			"sys mount s:nowhere s:m s:ext4 0 s:stripe=x", "write f x", "sys mount s:nowhere s:f s:ext4 0 null"},
			"ENOENT EINVAL EFAULT EINVAL ENOENT", strings.TrimSpace(strings.Repeat("errno ", 5))},
		"options": {[]string{"sys mount s:/dev/disk s:m s:ext4 0 s:nonsense", "sys mount s:/dev/disk s:m s:ext4 0 s:commit", "sys mount s:/dev/disk s:m s:ext4 0 s:data=nonsense",
			"sys mount s:/dev/disk s:m s:ext4 0 s:data", "sys mount s:/dev/disk s:m s:ext4 0 long:5000"},
			"EINVAL EINVAL EINVAL EINVAL EINVAL", strings.TrimSpace(strings.Repeat("errno ", 5))},
		"flags": {[]string{"sys mount s:/dev/disk s:m s:ext4 0x80000000 null", "sys mount s:/dev/disk s:m s:ext4 0x7ead00000000 null", "sys mount s:/dev/disk s:nowhere s:ext4 0x80000000 null"},
			"EINVAL EINVAL ENOENT", "continue continue continue"},
		"no filesystem": {[]string{"do mknodat AT_FDCWD s:z S_IFIFO|0600 0", "sys mount s:z s:m s:ext4 0 null"}, "ENOTBLK", "errno"},
	})
}
