package ociruntime

import (
	"strings"
	"testing"
)

// lines are command lines as engines and people write them; without "bundle" nothing is created.
var lines = map[string]struct {
	line string
	want command
}{
	"docker 20.10 and containerd 1.6": {
		"--root /var/run/docker/runtime-intercede/moby --log /run/containerd/io.containerd.runtime.v2.task/moby/0af1/log.json " +
			"--log-format json create --bundle /run/containerd/io.containerd.runtime.v2.task/moby/0af1 " +
			"--pid-file /run/containerd/io.containerd.runtime.v2.task/moby/0af1/init.pid 0af1",
		command{name: "create", bundle: "/run/containerd/io.containerd.runtime.v2.task/moby/0af1", id: "0af1",
			logTo: "/run/containerd/io.containerd.runtime.v2.task/moby/0af1/log.json", logFormat: "json"}},
	"docker with a terminal": {
		"--root /var/run/docker/runtime-runc/moby --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid " +
			"--console-socket /tmp/pty1/pty.sock 0af1",
		command{name: "create", bundle: "/b", id: "0af1", logTo: "/l", logFormat: "json"}},
	"podman 4.3, by conmon": {
		"--log-format=json --log=/run/containers/storage/overlay-containers/77/userdata/oci-log create " +
			"--bundle /var/lib/containers/storage/overlay-containers/77/userdata " +
			"--pid-file /run/containers/storage/overlay-containers/77/userdata/pidfile 77",
		command{name: "create", bundle: "/var/lib/containers/storage/overlay-containers/77/userdata", id: "77",
			logTo: "/run/containers/storage/overlay-containers/77/userdata/oci-log", logFormat: "json"}},
	"podman, rootless crun": {
		"--systemd-cgroup --root /run/user/1000/crun create --bundle /b --pid-file /p 77",
		command{name: "create", bundle: "/b", id: "77"}},
	"CRI-O, by conmon": {
		"--root=/run/runc --systemd-cgroup create --bundle /run/containers/storage/overlay-containers/5/userdata --pid-file /run/p --no-pivot 5",
		command{name: "create", bundle: "/run/containers/storage/overlay-containers/5/userdata", id: "5"}},
	"containerd, exec": {
		"--root /run/containerd/runc/k8s.io --log /l --log-format json exec --process /tmp/p --detach --pid-file /p a",
		command{name: "exec", logTo: "/l", logFormat: "json"}},
	"runc, the working directory":     {"run web", command{name: "run", id: "web"}},
	"runc, one dash":                  {"-root /r -debug run -bundle /b -d web", command{name: "run", bundle: "/b", id: "web"}},
	"runc, options after the id":      {"run web --bundle /b", command{name: "run", bundle: "/b", id: "web"}},
	"runc, short with an equals sign": {"run -b=/b web", command{name: "run", bundle: "/b", id: "web"}},
	"runc, twice":                     {"run -b /a --bundle=/b web", command{name: "run", bundle: "/b", id: "web"}},
	"crun, joined":                    {"run -b/b -f/c.json web", command{name: "run", bundle: "/b", config: "/c.json", id: "web"}},
	"crun, config": {"--cgroup-manager=disabled --log=file:/l create --bundle=/b --config c.json web",
		command{name: "create", bundle: "/b", config: "c.json", id: "web", logTo: "file:/l"}},
	"crun, short global": {"-V", command{}},
	"values that look like commands": {"--root create --log run create --bundle run create",
		command{name: "create", bundle: "run", id: "create", logTo: "run"}},
	"value of an unknown option":           {"--unknown value create -b /b web", command{name: "create", bundle: "/b", id: "web"}},
	"unknown option without one":           {"--unknown create -b /b web", command{name: "create", bundle: "/b", id: "web"}},
	"unknown option before another":        {"--unknown --root /r create -b /b web", command{name: "create", bundle: "/b", id: "web"}},
	"unknown option of create":             {"create --unknown value --bundle /b web", command{name: "create", bundle: "/b", id: "web"}},
	"end of options":                       {"--root /r -- create -b /b -- --web", command{name: "create", bundle: "/b", id: "--web"}},
	"options behind the end":               {"create -b /b -- web --bundle", command{name: "create", bundle: "/b", id: "--bundle"}},
	"bundle of another command":            {"spec --bundle /b", command{name: "spec"}},
	"restore":                              {"restore --bundle /b web", command{name: "restore"}},
	"an id like a command":                 {"state create", command{name: "state"}},
	"a value is missing":                   {"create --bundle", command{name: "create"}},
	"a value is missing before a command":  {"--root", command{}},
	"nothing":                              {"", command{}},
	"a single dash":                        {"- create", command{name: "-"}},
	"an empty value":                       {"--root= create --bundle= web", command{name: "create", id: "web"}},
	"an unknown command":                   {"frobnicate --bundle /b web", command{name: "frobnicate"}},
	"the command is an option's beginning": {"--log=/l --create run -b /b x", command{name: "run", bundle: "/b", id: "x", logTo: "/l"}},
}

func TestParse(t *testing.T) {
	for name, test := range lines {
		t.Run(name, func(t *testing.T) {
			if got := parse(strings.Fields(test.line)); got != test.want {
				t.Errorf("%s\ngot  %+v\nwant %+v", test.line, got, test.want)
			}
		})
	}
}

// Empty words and lone dashes are words too.
func TestParseOddWords(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want command
	}{
		"empty words": {[]string{"", "create"}, command{}},
		"empty id":    {[]string{"create", ""}, command{name: "create"}},
		"dashes":      {[]string{"---", "create", "---", "-=", "--="}, command{name: "create"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parse(test.args); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestConfigPath(t *testing.T) {
	for line, want := range map[string]string{
		"create x": "config.json", "create -b /b x": "/b/config.json", "create -b b -f c.json x": "c.json", "run --bundle=b/ x": "b/config.json",
	} {
		t.Run(line, func(t *testing.T) {
			c := parse(strings.Fields(line))
			if got := c.configPath(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, test := range lines {
		f.Add(test.line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		c := parse(args)
		if !c.creates() && (c.bundle != "" || c.config != "" || c.id != "") {
			t.Errorf("%q creates nothing, but: %+v", args, c)
		}
		for _, word := range []string{c.name, c.bundle, c.config, c.id, c.logTo, c.logFormat} {
			if !strings.Contains(line, word) {
				t.Errorf("%q is not in %q", word, args)
			}
		}
	})
}
