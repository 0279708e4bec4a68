package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

func TestRunAnswersCalls(t *testing.T) {
	s := newSite(t, both)
	r := intercede(t, "run", "--config", s.config(), "--memory", fmt.Sprint(64<<20), "--", "sh", "-ec", `
		mknod -m 640 /tmp/null c 1 3
		stat -c '%F %t:%T %a %u:%g' /tmp/null
		echo gone >/tmp/null
		mknod /dev/xnull c 1 3
		echo gone >/dev/xnull
		mknod /tmp/console c 5 1
		mknod /tmp/kmsg c 1 11 || echo refused`)
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	wantText(t, r.stdout, "character special file 1:3 640 0:0\n", "refused\n")
	wantText(t, r.stderr, "Operation not permitted")
}

// A node in /dev of run's containers is a node: it can be renamed and removed, and is not a mount. The container can
// make no other one, and its /dev is not its own to mount anew.
func TestRunDev(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n")
	const script = `cd /dev; mknod new c 1 3 && echo text > new && mv new other && rm other
		mknod twice c 1 5 && rm -f twice && mknod twice c 1 5 && stat -c '%t %T %u' twice; grep -c ' /dev/twice ' /proc/self/mountinfo
		mknod memory c 1 1 || echo refused
		mount -i -o remount,size=1g tmpfs /dev || echo refused; df -k /dev | grep -o 65536`
	r := intercede(t, "run", "--config", s.config(), "--", "/bin/sh", "-c", script)
	wantText(t, r.stdout, "1 5 0\n0\nrefused\nrefused\n65536\n")
}

func TestRunShowsMemoryLimit(t *testing.T) {
	require(t, "busybox")
	s := newSite(t, both+"[plugins.sysinfo.config]\nuptime = \"container\"\n")
	r := intercede(t, "run", "--config", s.config(), "--memory", "64m", "--", "sh", "-c", "busybox free -k; busybox uptime")
	wantText(t, r.stdout, "Mem:          65536", "up 0 min")
}

func TestRunExitStatus(t *testing.T) {
	s := newSite(t, both)
	for _, test := range []struct {
		name string
		args []string
		want int
	}{
		{"the command's", []string{"sh", "-c", "exit 42"}, 42},
		{"of a signal", []string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137},
		{"not found", []string{"/no/such/program"}, 127},
		{"not executable", []string{"/etc/passwd"}, 126},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := intercede(t, append([]string{"run", "--config", s.config(), "--"}, test.args...)...)
			if r.status != test.want {
				t.Errorf("status %d, want %d: %s", r.status, test.want, r.stderr)
			}
		})
	}
}

// One line for each intercepted call at debug level, none at the default; what the caller says cannot break the line.
func TestRunAudits(t *testing.T) {
	s := newSite(t, both)
	const script = `mknod "$(printf '/tmp/a\n{"level":"error"}\033[0m')" c 1 3; mknod /tmp/kmsg c 1 11`
	quiet := intercede(t, "run", "--config", s.config(), "--", "sh", "-c", script)
	wantText(t, quiet.stderr, "Operation not permitted")
	if strings.Contains(quiet.stderr, `"level"`) {
		t.Errorf("logged without being asked to: %s", quiet.stderr)
	}
	r := intercede(t, "run", "--config", s.config(), "--log-level", "debug", "--name", "box", "--", "sh", "-c", "exec 2>/dev/null; "+script)
	calls := map[any]string{} // by outcome: a call may be logged after the next one
	for line := range strings.Lines(r.stderr) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && record["message"] == "call" {
			calls[record["outcome"]] += fmt.Sprint(record)
		}
	}
	if len(calls) != 2 {
		t.Fatalf("%d calls in the log:\n%s", len(calls), r.stderr)
	}
	wantText(t, calls["return"], "syscall:mknod", "plugin:mknod", `\n{\"level\":\"error\"}\x1b[0m`, "S_IFCHR|0666",
		"dev=1:3", "outcome:return")
	wantText(t, calls["continue"], "outcome:continue", "dev=1:11")
	if n := strings.Count(r.stderr, `"message":"call"`); n != 2 {
		t.Errorf("%d calls in the log", n)
	}
}

// TestRunUsage has what is wrong with a command line: the exit status is 2, before any config is read.
func TestRunUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                             "want a command after --",
		"--":                           "want a command after --",
		"-- %":                         "no command to run",
		"--memory -5 -- true":          "want a number of bytes",
		"--memory 1.5x -- true":        "want a number of bytes",
		"--memory 9999999999g --":      "it is too much",
		"--log-level foo -- true":      `--log-level "foo": want one of trace, debug, info, warn, error`,
		"--mount dst=/x,ro=1 --":       "want a command",
		"--tmpfs x -- true":            "not an absolute path below",
		"--ulimit core -- true":        "want NAME=SOFT",
		"--uidmap 0 -- true":           "want CONTAINER:HOST[:SIZE]",
		"--gidmap 1:5 -- true":         "id 0 of the container is not mapped",
		"--env a -- true":              "NAME=VALUE",
		"--name -x -- true":            "cannot be a hostname",
		"--workdir x -- true":          "not an absolute path",
		"--cap-drop fly -- true":       `unknown capability "fly"`,
		"--device /etc/passwd true":    "not a device node",
		"--device-cgroup-rule x ls":    "want TYPE MAJOR:MINOR",
		"--mount dst=/x,src=y -- ls":   "not an absolute path of the host",
		"--socket /x --log-level=a ls": `--log-level "a": want one of`,
		"--tmpfs /x --tmpfs /x -- ls":  `have the same target /x`,
	} {
		t.Run(line, func(t *testing.T) {
			args := append([]string{"run", "--config", "/nosuch"}, strings.Fields(line)...)
			for i, arg := range args {
				args[i] = strings.TrimSuffix(arg, "%") // an empty word
			}
			r := intercede(t, args...)
			if r.status != cli.ExitUsage || r.stdout != "" {
				t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
			}
			wantText(t, r.stderr, "intercede: ", want, "--help'")
		})
	}
}

func TestRunThroughDaemon(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	r := intercede(t, "run", "--config", s.config(), "--socket", s.socket(), "--", "sh", "-c", "mknod /tmp/null c 1 3 && echo made; exit 3")
	if r.status != 3 || r.stdout != "made\n" {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	s.waitForContainers(t, 0)
}

func TestRunWithoutDaemon(t *testing.T) {
	s := newSite(t, both)
	r := intercede(t, "run", "--config", s.config(), "--socket", s.socket(), "--", "true")
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, "intercede serve", s.socket())
}

// everySetting has all plugins on, with something to do for each.
const everySetting = `
[plugins.mknod]
[plugins.sysinfo]
[plugins.sched.config]
min_nice = -5
[plugins.bpf.config]
devices = true
[plugins.mount.config]
allowed = ["ext4"]
fuse = { squashfs = "squashfuse" }
[plugins.setxattr]
`

// TestRunNotifiesNothingElse has a container with all plugins do what none of them takes, with the same system calls
// where there are such: pipes and regular files are made, filesystems bound, attributes of another size set.
func TestRunNotifiesNothingElse(t *testing.T) {
	require(t, "busybox", "setfattr")
	s := newSite(t, everySetting)
	const workload = `set -e
		d=$(mktemp -d); cd "$d"
		mkfifo pipe; busybox mknod other p
		mkdir a b; cp -a /etc/passwd a; ln -s a link; chmod 600 a/passwd; chown 1:1 a/passwd
		tar cf a.tar a; tar xf a.tar -C b
		busybox mount -o bind a /mnt; busybox mount -o remount,bind,ro /mnt; busybox mount --make-private /mnt; umount /mnt
		setfattr -n user.long -v value a || [ $? = 1 ]
		(cat /proc/self/status; ls -lR /etc; find /usr/bin -name 'a*'; ps; id; date; df /) >/dev/null 2>&1 || true
		echo done`
	r := intercede(t, "run", "--config", s.config(), "--log-level", "debug", "--", "sh", "-c", workload)
	if r.status != 0 || !strings.Contains(r.stdout, "done") {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	for line := range strings.Lines(r.stderr) {
		if strings.Contains(line, `"message":"call"`) {
			t.Errorf("notified: %s", line)
		}
	}
}

// A log whose reader is gone does not end the container, and the container's command does not ignore SIGPIPE for that.
func TestRunWithoutReaderOfItsLog(t *testing.T) {
	s := newSite(t, both)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := program("run", "--config", s.config(), "--log-level", "debug", "--", "sh", "-c",
		"mknod /tmp/zero c 1 5 && echo made; grep SigIgn /proc/self/status")
	cmd.Stderr = w
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ignored uint64
	if n, err := fmt.Sscanf(string(out), "made\nSigIgn: %x\n", &ignored); n != 1 || ignored&(1<<(unix.SIGPIPE-1)) != 0 {
		t.Errorf("%q, %v", out, err)
	}
}
