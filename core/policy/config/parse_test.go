package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
)

// check compares problems, line by line, with what is wanted.
func check(t *testing.T, problems Problems, want ...string) {
	t.Helper()
	if got := problems.Error(); got != strings.Join(want, "\n") {
		t.Errorf("problems:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// parseProblems are the lines of what is wrong with a text.
var parseProblems = map[string]struct {
	text string
	want []string
}{
	"syntax": {"[broker]\ndeadline = 5s\n", []string{
		"config.toml:2:13: not TOML: expected a top-level item to end with a newline, comment, or EOF, but got 's' instead"}},
	"syntax that quotes a line end": {"[broker]\nsocket = \"\\\n\"\n", []string{
		`config.toml:2:11: not TOML: invalid escape in string '\\n'`}},
	"syntax after other letters": {"# ä\n\"ä\" = ture", []string{
		`config.toml:2:7: not TOML: expected value but found "ture" instead`}},
	"not UTF-8": {"# ä\n# \xff", []string{
		"config.toml:2:3: not UTF-8"}},
	"duplicate key": {"[broker]\nrate = 1\nrate = 2\n", []string{
		"config.toml:3:1: not TOML: Key 'broker.rate' has already been defined."}},
	"table overwritten": {"[plugins]\nmknod.enabled = false\nmknod = 1\n", []string{
		"config.toml:3:1: plugins.mknod: was already defined as a table above"}},
	"what recurs in an array is not overwritten": {"plugins.a.config.x = [{ b.c = 1 }, { b = 2 }]\n[[plugins.a.config.y]]\nb.c = 1\n" +
		"[[plugins.a.config.y]]\nb = 2\n", nil},
	"unknown table": {"[plugin.mknod]\n", []string{
		`config.toml:1:1: plugin: unknown key; did you mean "plugins"?`}},
	"unknown key, nothing near": {"colour = 1\n", []string{
		"config.toml:1:1: colour: unknown key; accepted: broker, plugins, oci_runtime, audit, container"}},
	"wrong case": {"[broker]\nSocket = \"/s\"\n", []string{
		`config.toml:2:1: broker.Socket: unknown key; did you mean "socket"?`}},
	"unknown key in an inline table": {"plugins = { mknod = { enabled = true, timout = \"1s\" } }\n", []string{
		`config.toml:1:39: plugins.mknod.timout: unknown key; did you mean "timeout"?`}},
	"dotted and quoted keys": {"broker . \"rat\" = 1\nplugins.'mknod'.\"sha\".x = 1\n", []string{
		`config.toml:1:1: broker.rat: unknown key; did you mean "rate"?`,
		"config.toml:2:1: plugins.mknod.sha: unknown key; accepted: enabled, path, sha256, timeout, on_failure, memory_max, grant, config"}},
	"a key that needs quotes": {"[broker]\n\"a b\\n\" = 1\n", []string{
		`config.toml:2:1: broker."a b\n": unknown key; accepted: socket, lxc_socket, control, plugin_dir, deadline, max_inflight, rate, ` +
			`burst, priority, log_level, log_format, metrics, order`}},
	"after strings that look like keys": {"[broker]\nsocket = \"\"\"\n/a\\\"\"\\\"\n\"\"\"\nlog_format = '''\nx = 1\n'''\nrat = 1\n", []string{
		`config.toml:2:1: broker.socket: "/a\"\"\"\n": want a path without control characters`,
		`config.toml:5:1: broker.log_format: unknown value "x = 1\n"; accepted: json, console`,
		`config.toml:8:1: broker.rat: unknown key; did you mean "rate"?`}},
	"tables of the wrong type": {"broker = 1\n[[plugins]]\nmknod = 1\n", []string{
		"config.toml:1:1: broker: 1: want a table",
		`config.toml:2:1: plugins: [{"mknod":1}]: want a table`}},
	"plugin that is no table": {"[plugins]\nmknod = true\n", []string{
		"config.toml:2:1: plugins.mknod: true: want a table"}},
	"plugin names": {"[plugins.Mk-nod]\n[plugins.\"../x\"]\n", []string{
		`config.toml:1:1: plugins.Mk-nod: plugin name "Mk-nod": want a lower-case letter, then lower-case letters, digits and underscores`,
		`config.toml:2:1: plugins."../x": plugin name "../x": want a lower-case letter, then lower-case letters, digits and underscores`}},
	"types": {"[broker]\nsocket = 1\nmax_inflight = \"1\"\nrate = 1.0\nlog_level = []\norder = \"a\"\n[plugins.a]\nenabled = \"yes\"\n" +
		"config = 2026-01-02\n", []string{
		"config.toml:2:1: broker.socket: 1: want a string",
		`config.toml:3:1: broker.max_inflight: "1": want a whole number`,
		"config.toml:4:1: broker.rate: 1.0: want a whole number",
		"config.toml:5:1: broker.log_level: []: want one of trace, debug, info, warn, error",
		`config.toml:6:1: broker.order: "a": want a list of strings`,
		`config.toml:8:1: plugins.a.enabled: "yes": want true or false`,
		"config.toml:9:1: plugins.a.config: 2026-01-02T00:00:00Z: want a table"}},
	"durations": {"[broker]\ndeadline = 5\n[plugins.a]\ntimeout = \"5\"\n[plugins.b]\ntimeout = \"1ms\"\n[plugins.c]\ntimeout = \"6m\"\n" +
		"[plugins.d]\ntimeout = \"-1s\"\n", []string{
		`config.toml:2:1: broker.deadline: 5: want a duration in quotes, with its unit, such as "10s" or "500ms"`,
		`config.toml:4:1: plugins.a.timeout: "5": want a duration with its unit, such as "10s" or "500ms"`,
		`config.toml:6:1: plugins.b.timeout: "1ms": want "10ms" to "5m"`,
		`config.toml:8:1: plugins.c.timeout: "6m": want "10ms" to "5m"`,
		`config.toml:10:1: plugins.d.timeout: "-1s": want "10ms" to "5m"`}},
	"ranges": {"[broker]\nmax_inflight = 0\nrate = -1\nburst = 99999999\n", []string{
		"config.toml:2:1: broker.max_inflight: 0: want 1 to 65536",
		"config.toml:3:1: broker.rate: -1: want 0 to 10000000",
		"config.toml:4:1: broker.burst: 99999999: want 1 to 10000000"}},
	"burst without a rate": {"[broker]\nrate = 0\nburst = 5\n", []string{
		"config.toml:3:1: broker.burst: has no meaning without a limit: rate is 0"}},
	"priority": {"[broker]\npriority = 1\n", []string{
		`config.toml:2:1: broker.priority: 1: want a nice value, -20 to 0, or "fifo:1" to "fifo:99"`}},
	"real-time priority": {"[broker]\npriority = \"fifo:100\"\n", []string{
		`config.toml:2:1: broker.priority: "fifo:100": want a nice value, -20 to 0, or "fifo:1" to "fifo:99"`}},
	"priority of the wrong type": {"[broker]\npriority = true\n", []string{
		`config.toml:2:1: broker.priority: true: want a nice value, -20 to 0, or "fifo:1" to "fifo:99"`}},
	"one of": {"[broker]\nlog_level = \"warning\"\nlog_format = \"text\"\n", []string{
		`config.toml:2:1: broker.log_level: unknown value "warning"; accepted: trace, debug, info, warn, error`,
		`config.toml:3:1: broker.log_format: unknown value "text"; accepted: json, console`}},
	"metrics without a port": {"[broker]\nmetrics = \"127.0.0.1\"\n", []string{
		`config.toml:2:1: broker.metrics: "127.0.0.1": want an IP address and a port, such as "127.0.0.1:9099" or "[::1]:9099", or "" for none`}},
	"metrics at a name": {"[broker]\nmetrics = \"localhost:9099\"\n", []string{
		`config.toml:2:1: broker.metrics: "localhost:9099": want an IP address and a port, such as "127.0.0.1:9099" or ` +
			`"[::1]:9099", or "" for none`}},
	"metrics at any port": {"[broker]\nmetrics = \"[::1]:0\"\n", []string{
		`config.toml:2:1: broker.metrics: "[::1]:0": want an IP address and a port, such as "127.0.0.1:9099" or "[::1]:9099", or "" for none`}},
	"metrics of the wrong type": {"[broker]\nmetrics = 9099\n", []string{
		`config.toml:2:1: broker.metrics: 9099: want a string`}},
	"socket paths": {"[broker]\nsocket = \"run.sock\"\ncontrol = \"/" + strings.Repeat("x", 107) + "\"\nplugin_dir = \"\\u0000\"\n", []string{
		`config.toml:2:1: broker.socket: "run.sock": want an absolute path`,
		`config.toml:3:1: broker.control: "/` + strings.Repeat("x", 107) + `": 108 bytes long: the path of a socket has at most 107`,
		`config.toml:4:1: broker.plugin_dir: "\u0000": want a path without control characters`}},
	"one socket for both": {"[broker]\nsocket = \"/run/a\"\ncontrol = \"/run//a\"\n", []string{
		`config.toml:3:1: broker.control: "/run//a" is a runtime socket too: want another path`}},
	"one socket for OCI runtimes and LXC": {"[broker]\nsocket = \"/run/a\"\nlxc_socket = \"/run/a\"\n", []string{
		`config.toml:3:1: broker.lxc_socket: "/run/a" is the runtime socket too: want another path`}},
	"one socket for LXC and operators": {"[broker]\nlxc_socket = \"/run/a\"\ncontrol = \"/run/a\"\n", []string{
		`config.toml:3:1: broker.control: "/run/a" is a runtime socket too: want another path`}},
	"digest": {"[plugins.a]\nsha256 = \"abcd\"\n[plugins.b]\nsha256 = \"" + strings.Repeat("0", 62) + "zz\"\n", []string{
		`config.toml:2:1: plugins.a.sha256: "abcd": want 64 hex digits, as sha256sum prints them`,
		`config.toml:4:1: plugins.b.sha256: "` + strings.Repeat("0", 62) + `zz": want 64 hex digits, as sha256sum prints them`}},
	"grants": {"[plugins.a]\ngrant = \"manifset\"\n[plugins.b]\ngrant = true\n[plugins.c]\ngrant.capability = []\n" +
		"grant.capabilities = [\"CAP_SYS_ADMIM\", 1]\ngrant.syscalls = \"bpf\"\ngrant.host = [\"proc\"]\ngrant.devices = [\"c 1:3\"]\n", []string{
		`config.toml:2:1: plugins.a.grant: unknown value "manifset"; did you mean "manifest"?`,
		`config.toml:4:1: plugins.b.grant: true: want "manifest", or a table such as { capabilities = ["CAP_MKNOD"], syscalls = ["mount"] }`,
		`config.toml:6:1: plugins.c.grant.capability: unknown key; did you mean "capabilities"?`,
		`config.toml:7:23: plugins.c.grant.capabilities[0]: capability "CAP_SYS_ADMIM": there is none of that name: ` +
			"want one such as CAP_MKNOD (capabilities(7))",
		"config.toml:7:40: plugins.c.grant.capabilities[1]: 1: want a string",
		`config.toml:8:1: plugins.c.grant.syscalls: "bpf": want a list of strings`,
		`config.toml:9:15: plugins.c.grant.host[0]: path "proc" of the host: want an absolute one without "..", ` +
			"doubled or trailing slashes, and control characters",
		`config.toml:10:18: plugins.c.grant.devices[0]: device rule "c 1:3": want TYPE MAJOR:MINOR ACCESS, such as "c 10:229 rw": ` +
			"TYPE is c or b, a number may be *, ACCESS has r, w, m"}},
	"failure verdicts": {"[plugins.a]\non_failure = \"eperm\"\n[plugins.b]\non_failure = 1\n[plugins.c]\non_failure = \"contine\"\n" +
		"[plugins.d]\non_failure = \"fail\"\n", []string{
		`config.toml:2:1: plugins.a.on_failure: "eperm": want "continue" or the name of an errno, such as "EPERM"; did you mean "EPERM"?`,
		`config.toml:4:1: plugins.b.on_failure: 1: want "continue" or the name of an errno, such as "EPERM"`,
		`config.toml:6:1: plugins.c.on_failure: "contine": want "continue" or the name of an errno, such as "EPERM"; did you mean "continue"?`,
		`config.toml:8:1: plugins.d.on_failure: "fail": want "continue" or the name of an errno, such as "EPERM"`}},
	"oci_runtime": {"[oci_runtime]\nruntime = \"bin/runc\"\non_missing = \"ignore\"\nruntimes = 1\nmount_dev = 1\n", []string{
		`config.toml:2:1: oci_runtime.runtime: "bin/runc": want a name or an absolute path`,
		`config.toml:3:1: oci_runtime.on_missing: unknown value "ignore"; accepted: fail, plain`,
		`config.toml:4:1: oci_runtime.runtimes: unknown key; did you mean "runtime"?`,
		`config.toml:5:1: oci_runtime.mount_dev: 1: want true or false`}},
	"oci_runtime, empty": {"[oci_runtime]\nruntime = \"\"\n", []string{
		`config.toml:2:1: oci_runtime.runtime: "": want a path without control characters`}},
	"order": {"[broker]\norder = [\n  \"mknod\", # first\n  \"mknot\",\n  1, \"mknod\",\n]\n[plugins.mknod]\n", []string{
		`config.toml:4:3: broker.order[1]: "mknot" is not one of them; did you mean "mknod"?`,
		"config.toml:5:3: broker.order[2]: 1: want a string",
		`config.toml:5:6: broker.order[3]: "mknod" is in the list twice`}},
	"Windows line ends and a byte order mark": {"\ufeff[broker]\r\n\r\n  rat = 1\r\n", []string{
		`config.toml:3:3: broker.rat: unknown key; did you mean "rate"?`}},
}

func TestParseProblems(t *testing.T) {
	for name, test := range parseProblems {
		t.Run(name, func(t *testing.T) {
			_, problems := Parse(test.text, "config.toml", Options{})
			check(t, problems, test.want...)
		})
	}
}

func TestParseGoesOnAfterProblems(t *testing.T) {
	config, problems := Parse("[broker]\nrate = true\ndeadline = \"2s\"\n[plugins.a]\nenabled = 3\n", "config.toml", Options{})
	if len(problems) != 2 || config == nil {
		t.Fatalf("config %v, problems %v: want a config and two problems", config, problems)
	}
	if config.Broker.Deadline != 2*time.Second || config.Broker.Rate != 100_000 || len(config.Plugins) != 1 {
		t.Errorf("config %+v: want what is right, and defaults for the rest", config)
	}
}

func TestParseDefaults(t *testing.T) {
	config, problems := Parse("[plugins.a]\n", "/etc/intercede/config.toml", Options{})
	check(t, problems)
	b := config.Broker
	if b.Socket != "/run/intercede/intercede.sock" || b.Control != "/run/intercede/control.sock" ||
		b.PluginDir != "/usr/libexec/intercede" || b.Deadline != 10*time.Second || b.MaxInflight != 16 ||
		b.Rate != 100_000 || b.Burst != 100_000 || b.LogLevel != "info" || b.LogFormat != "json" || len(b.Order) != 0 {
		t.Errorf("broker %+v", b)
	}
	p := config.Plugins[0]
	if !p.Enabled || p.Path != "/usr/libexec/intercede/intercede-plugin-a" || p.SHA256 != "" ||
		p.Timeout != 10*time.Second || p.OnFailure != nil {
		t.Errorf("plugin %+v", p)
	}
}

func TestParsePriority(t *testing.T) {
	for text, want := range map[string]linux.Priority{"0": {}, "-20": {Nice: -20}, `"fifo:1"`: {FIFO: 1}, `"fifo:99"`: {FIFO: 99}} {
		config, problems := Parse("[broker]\npriority = "+text+"\n", "config.toml", Options{})
		check(t, problems)
		if config.Broker.Priority != want {
			t.Errorf("%s: got %+v", text, config.Broker.Priority)
		}
	}
}

func TestParseValues(t *testing.T) {
	digest := strings.Repeat("aB", 32)
	config, problems := Parse(`
		[broker]
		deadline = "1m30s"
		rate = 100
		order = ["b", "a"]
		[plugins.a]
		enabled = false
		path = "/opt/a"
		sha256 = "`+digest+`"
		timeout = "500ms"
		on_failure = "ENOTSUP"
		memory_max = 64
		[plugins.b]
		on_failure = "continue"`, "config.toml", Options{})
	check(t, problems)
	if config.Broker.Burst != 100 || strings.Join(config.Broker.Order, " ") != "b a" {
		t.Errorf("broker %+v", config.Broker)
	}
	a, b := config.Plugins[0], config.Plugins[1]
	if a.Enabled || a.Path != "/opt/a" || a.SHA256 != strings.ToLower(digest) || a.Timeout != 500*time.Millisecond ||
		a.OnFailure.GetErrno() != 95 || a.MemoryMax != 64 {
		t.Errorf("plugin %+v", a)
	}
	if b.Timeout != 90*time.Second || !b.OnFailure.GetContinue() {
		t.Errorf("plugin %+v", b)
	}
}

func TestPluginDir(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		options Options
		want    string
	}{
		"relative to the file": {`broker.plugin_dir = "../bin"`, Options{}, "/etc/bin/intercede-plugin-a"},
		"absolute":             {`broker.plugin_dir = "/opt"`, Options{}, "/opt/intercede-plugin-a"},
		"option":               {`broker.plugin_dir = "/opt"`, Options{PluginDir: "/mine"}, "/mine/intercede-plugin-a"},
		"relative program":     {`plugins.a.path = "x/y"`, Options{PluginDir: "/mine"}, "/mine/x/y"},
	} {
		t.Run(name, func(t *testing.T) {
			config, problems := Parse(test.text+"\nplugins.a.enabled = true", "/etc/intercede/config.toml", test.options)
			check(t, problems)
			if got := config.Plugins[0].Path; got != test.want {
				t.Errorf("path %s, want %s", got, test.want)
			}
		})
	}
}

// TestDefaultConfig holds the config.toml of the repository against what the code does without it. The plugins'
// settings are in cmd's TestShippedConfigHasDefaults.
func TestDefaultConfig(t *testing.T) {
	text, err := os.ReadFile("../../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, problems := Parse(string(text), "config.toml", Options{})
	check(t, problems)
	bare, problems := Parse("", "config.toml", Options{})
	check(t, problems)
	if !reflect.DeepEqual(shipped.Broker, bare.Broker) || shipped.OCIRuntime != bare.OCIRuntime {
		t.Errorf("config.toml gives\n%+v %+v\nand defaults alone\n%+v %+v", shipped.Broker, shipped.OCIRuntime, bare.Broker, bare.OCIRuntime)
	}
}
