package differential

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commonCalls are those that sequences of every family may make.
var commonCalls = strings.Fields(`mkdir mkdirat rmdir unlink unlinkat rename symlink link chmod chown lchown setfsuid setfsgid
	dup dup2 close gettid getpid getppid getpgid setpgid read fcntl unshare open openat umask`)

var permitted = map[string]*regexp.Regexp{
	"open":         regexp.MustCompile(`^open (\S+) (\S+)$`),
	"openfile":     regexp.MustCompile(`^openfile (\S+) (\S+)$`),
	"stat":         regexp.MustCompile(`^stat (\S+)$`),
	"write":        regexp.MustCompile(`^write ([a-z/]+) [a-z]+$`),
	"mkdir":        regexp.MustCompile(`^mkdir (\S+)$`),
	"chdir":        regexp.MustCompile(`^chdir (\S+)$`),
	"umask":        regexp.MustCompile(`^umask [0-7]+$`),
	"setuid":       regexp.MustCompile(`^setuid [0-9]+$`),
	"setgid":       regexp.MustCompile(`^setgid [0-9]+$`),
	"setgroups":    regexp.MustCompile(`^setgroups [0-9,-]+$`),
	"dropcap":      regexp.MustCompile(`^dropcap [0-9]+$`),
	"unshare":      regexp.MustCompile(`^unshare (user|mount)$`),
	"thread":       regexp.MustCompile(`^thread$`),
	"leader-exits": regexp.MustCompile(`^leader-exits$`),
	"fork":         regexp.MustCompile(`^fork$`),
}

// absolute are the absolute paths that a sequence may name: of its folder, of the disk, and of its own descriptors and
// folders in procfs. All of them lead to real root's own place.
var absolute = regexp.MustCompile(`^/(t/s(/.*)?|disk/?|cgroup/x(/y)?|dev/null|proc/(self|thread-self)/(cwd|root/t/s|fd/[0-9]+)(/.*)?)$`)

// filesystems are those that real root may mount.
var filesystems = []string{"s:ext4", "s:ext3", "s:ext2", "s:xfs", "s:squashfs",
	"s:tmpfs", "s:nonesuch", "s:", "null", "bad", "protnone", "edge:ext4", "long:5000", "s:ext4.x"}

// realTime finds priorities that other work would wait for, in a struct or as a number.
var realTime = regexp.MustCompile(`\b(1[1-9]|[2-9][0-9])\b`)

// deadly finds the options by which a filesystem stops the kernel: errors=panic, and abort, after which it does.
var deadly = regexp.MustCompile(`panic|abort`)

// permit is an error if real root may not carry out the sequence: it is the last of several barriers (see newTwin), and
// the one that knows what the calls mean.
func permit(s sequence) error {
	f, known := families[s.family]
	if !known {
		return fmt.Errorf("family %q", s.family)
	}
	for _, c := range s.commands {
		if err := f.permit(c); err != nil {
			return fmt.Errorf("%q: %w", c, err)
		}
	}
	return nil
}

func (f *family) permit(command string) error {
	words := strings.Split(command, " ")
	if form, ok := permitted[words[0]]; ok {
		parts := form.FindStringSubmatch(command)
		if parts == nil {
			return fmt.Errorf("want %s", form)
		}
		if len(parts) > 1 && words[0] != "unshare" {
			return permitPath(parts[1])
		}
		return nil
	}
	if !slices.Contains([]string{"sys", "do", "fd"}, words[0]) || len(words) < 2 {
		return fmt.Errorf("the command %q", words[0])
	}
	if deadly.MatchString(command) {
		return errors.New("it may end the machine")
	}
	call, args := words[1], words[2:]
	if !slices.Contains(commonCalls, call) && !slices.Contains(f.calls, call) {
		return fmt.Errorf("the call %q", call)
	}
	for _, a := range args {
		if text, ok := strings.CutPrefix(a, "s:"); ok {
			if err := permitPath(text); err != nil {
				return err
			}
		}
	}
	return permitCall(call, args)
}

func permitPath(path string) error {
	if strings.HasPrefix(path, "/") && !absolute.MatchString(path) {
		return fmt.Errorf("the path %q", path)
	}
	if strings.HasPrefix(path, "/") && strings.Contains(path, "..") {
		return fmt.Errorf("the path %q", path)
	}
	return nil
}

// permitCall looks at what a call is about.
func permitCall(call string, args []string) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return "null"
	}
	switch call {
	case "mount":
		if !slices.Contains(filesystems, arg(2)) {
			return fmt.Errorf("the filesystem %q", arg(2))
		}
	case "fsopen":
		if !slices.Contains(filesystems, arg(0)) {
			return fmt.Errorf("the filesystem %q", arg(0))
		}
	case "sched_setscheduler":
		if realTime.MatchString(arg(2)) {
			return fmt.Errorf("the priority %s", arg(2))
		}
	case "sched_setparam":
		if realTime.MatchString(arg(1)) {
			return fmt.Errorf("the priority %s", arg(1))
		}
	case "sched_setattr":
		fields := strings.Split(arg(1), ",") // size, policy, flags, nice, priority ...
		if len(fields) > 4 && realTime.MatchString(fields[4]) {
			return fmt.Errorf("the priority %s", fields[4])
		}
	case "unshare":
		if arg(0) != "CLONE_FS" {
			return fmt.Errorf("the namespace %s", arg(0))
		}
	case "bpf":
		return permitBPF(arg(0), arg(1))
	}
	return nil
}

// permitBPF lets programs of devices and the one of runc's probe be loaded, and descriptors of the caller be used.
func permitBPF(command, attr string) error {
	loads := strings.HasPrefix(attr, "struct:4=15,") || strings.HasPrefix(attr, "struct:4=8,")
	switch command {
	case "5":
		if !loads && attr != "null" && attr != "bad" && attr != "protnone" && !strings.HasPrefix(attr, "buf:") {
			return fmt.Errorf("the program %s", attr)
		}
	case "8", "9", "16":
	default:
		return fmt.Errorf("the command %s", command)
	}
	return nil
}

// TestPermit has what real root may not do, whatever the generators make some day.
func TestPermit(t *testing.T) {
	for _, test := range []struct{ family, command string }{
		{"mount", "sys mount s:none s:m s:proc 0 null"},
		{"mount", "sys mount s:none s:m s:sysfs 0 null"},
		{"mount", "sys mount s:none s:m s:cgroup2 0 null"},
		{"mount", "sys mount s:none s:m s:devtmpfs 0 null"},
		{"mount", "sys mount s:none s:m s:binfmt_misc 0 null"},
		{"mount", "sys mount s:none s:/ s:tmpfs MS_REMOUNT null"},
		{"mount", "sys mount s:/disk s:m s:ext4 0 s:errors=panic"},
		{"mount", "sys mount null s:m null MS_REMOUNT s:abort"},
		{"fsopen", "sys fsconfig @3 1 s:errors s:panic 0"},
		{"mount", "mount proc proc m 0 -"},
		{"mount", "sys pivot_root s:. s:."},
		{"mount", "chroot m"},
		{"mount", "sys 165 s:none s:m s:proc 0 null"},
		{"fsopen", "fd fsopen s:debugfs 0"},
		{"fsopen", "sys open_by_handle_at -1 null 0"},
		{"mknod", "sys chown s:/proc/self/fd/1/../.. 0 0"},
		{"mknod", "openfile /dev/mem O_RDONLY"},
		{"mknod", "write /proc/self/oom_score_adj x"},
		{"setxattr", "sys mount s:/disk s:m s:ext4 0 null"},
		{"mknod", "sys unshare CLONE_NEWPID"},
		{"sched", "sys sched_setscheduler 0 SCHED_FIFO struct:4=99"},
		{"sched", "sys sched_setattr 0 struct:4=48,4=SCHED_FIFO,8=0,4=0,4=50,8=0,8=0,8=0 0"},
		{"sched", "sys kill -1 9"},
		{"bpf", "sys bpf 13 struct:4=1 4"},
		{"bpf", "sys bpf 5 struct:4=1,4=2 72"},
		{"bpf", "sys bpf 28 struct:4=1 16"},
		{"sysinfo", "sys reboot 0"},
	} {
		if permit(sequence{test.family, 64, []string{test.command}}) == nil {
			t.Errorf("%s: %q is permitted", test.family, test.command)
		}
	}
}
