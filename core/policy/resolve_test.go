package policy

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

func verdict(errno unix.Errno) *wire.Verdict {
	return &wire.Verdict{Kind: &wire.Verdict_Errno{Errno: int32(errno)}}
}

func syscalls(names ...string) (list []*wire.Syscall) {
	for _, name := range names {
		list = append(list, &wire.Syscall{Name: name})
	}
	return list
}

// testManifests has the manifests of mknod and sysinfo as config.toml describes them, one plugin with every type of
// setting, and two that take the same syscalls.
func testManifests(t testing.TB) Manifests {
	manifests := Manifests{Read: map[string]*wire.Manifest{}}
	for _, m := range []*wire.Manifest{
		{
			Name: "mknod", Syscalls: syscalls("mknod", "mknodat"),
			Settings: []*wire.Setting{{
				Key: "devices", Type: wire.Setting_TYPE_STRING_LIST, Pattern: `[cb] \d+:\d+`, Example: "c 1:3",
				DefaultJson: `["c 0:0","c 5:1","c 1:7","c 1:3","c 1:8","c 5:0","c 1:9","c 1:5"]`,
			}},
		},
		{
			Name: "sysinfo", Syscalls: syscalls("sysinfo"),
			Settings: []*wire.Setting{{Key: "loads", Type: wire.Setting_TYPE_STRING, Pattern: "host|container", Example: "container",
				DefaultJson: `"host"`}},
		},
		{
			Name: "every", Syscalls: syscalls("bpf"),
			Settings: []*wire.Setting{
				{Key: "z_table", Type: wire.Setting_TYPE_STRING_MAP, Pattern: "[a-z0-9<>]+", DefaultJson: `{"y": "<1>", "x": "2"}`},
				{Key: "flag", Type: wire.Setting_TYPE_BOOL, DefaultJson: "false"},
				{Key: "number", Type: wire.Setting_TYPE_INT, DefaultJson: "9007199254740993", MinBound: &wire.Setting_Min{Min: -5}},
				{Key: "text", Type: wire.Setting_TYPE_STRING, DefaultJson: `""`},
				{Key: "list", Type: wire.Setting_TYPE_STRING_LIST, DefaultJson: `[]`},
			},
		},
		{
			Name: "mount", Syscalls: append(syscalls("mount"), &wire.Syscall{Name: "fsopen", IfSettings: []string{"allowed"}}),
			Settings: []*wire.Setting{
				{Key: "allowed", Type: wire.Setting_TYPE_STRING_LIST, Pattern: "[a-z0-9]+", Example: "ext4", DefaultJson: `[]`},
				{Key: "shift", Type: wire.Setting_TYPE_BOOL, DefaultJson: `false`},
				{Key: "fuse", Type: wire.Setting_TYPE_STRING_MAP, DefaultJson: `{}`},
			},
		},
		{
			Name: "bpf", Syscalls: []*wire.Syscall{{Name: "bpf", IfSettings: []string{"devices"}}},
			Settings: []*wire.Setting{{Key: "devices", Type: wire.Setting_TYPE_BOOL, DefaultJson: `false`}},
		},
		{Name: "setxattr", Syscalls: syscalls("removexattr")},
		{Name: "one", Syscalls: syscalls("setxattr", "mount", "lsetxattr")},
		{Name: "two", Syscalls: syscalls("lsetxattr", "setxattr")},
	} {
		m.Version, m.OnFailure = "1", verdict(unix.EIO)
		if err := wire.CheckManifest(m); err != nil {
			t.Fatal(err)
		}
		manifests.Read[m.GetName()] = m
		manifests.Installed = append(manifests.Installed, m.GetName())
	}
	return manifests
}

// check compares problems, line by line, with what is wanted.
func check(t *testing.T, problems config.Problems, want ...string) {
	t.Helper()
	if got := problems.Error(); got != strings.Join(want, "\n") {
		t.Errorf("problems:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func resolve(t *testing.T, text string) (*Policy, config.Problems) {
	t.Helper()
	doc, problems := config.Parse(text, "config.toml", config.Options{PluginDir: "/p"})
	check(t, problems)
	if problems != nil {
		t.FailNow()
	}
	return Resolve(doc, testManifests(t))
}

// resolveProblems are the lines of what is wrong with a config when it is held against testManifests.
var resolveProblems = map[string]struct {
	text string
	want []string
}{
	"unknown setting": {"[plugins.mknod]\nenabled = true\n\n[plugins.mknod.config]\ndevice = [\"c 1:3\"]\n", []string{
		`config.toml:5:1: plugins.mknod.config.device: unknown key; did you mean "devices"?`}},
	"unknown setting, nothing near": {"plugins.sysinfo.config.uptime = 1", []string{
		"config.toml:1:1: plugins.sysinfo.config.uptime: unknown key; accepted: loads"}},
	"setting of a plugin without any": {"plugins.one.config.x = 1", []string{
		"config.toml:1:1: plugins.one.config.x: unknown key"}},
	"list elements": {"[plugins.mknod.config]\ndevices = [\n  \"c 1:3\",\n  \"c 1;3\", 7,\n  # a comment, [\"\n  ['x'],\n]\n", []string{
		`config.toml:4:3: plugins.mknod.config.devices[1]: "c 1;3": want something like "c 1:3"`,
		"config.toml:4:12: plugins.mknod.config.devices[2]: 7: want a string",
		`config.toml:6:3: plugins.mknod.config.devices[3]: ["x"]: want a string`}},
	"not a list": {"plugins.mknod.config = { devices = \"c 1:3\" }", []string{
		`config.toml:1:26: plugins.mknod.config.devices: "c 1:3": want a list of strings`}},
	"tables for a list": {"[[plugins.mknod.config.devices]]\na = 1\n[[plugins.mknod.config.devices]]\na.b = 1\n", []string{
		`config.toml:1:1: plugins.mknod.config.devices: [{"a":1},{"a":{"b":1}}]: want a list of strings`}},
	"types": {"[plugins.every.config]\nflag = \"on\"\nnumber = 2.0\ntext = 07:32:00\nlist = { a = inf }\nz_table = []\n", []string{
		`config.toml:2:1: plugins.every.config.flag: "on": want true or false`,
		"config.toml:3:1: plugins.every.config.number: 2.0: want a whole number",
		"config.toml:4:1: plugins.every.config.text: 0000-01-01T07:32:00Z: want a string",
		`config.toml:5:1: plugins.every.config.list: {"a":+inf}: want a list of strings`,
		"config.toml:6:1: plugins.every.config.z_table: []: want a table of strings"}},
	"range and table members": {"[plugins.every.config]\nnumber = -6\n[plugins.every.config.z_table]\nok = \"a\"\n\"a b\" = \"A\"\nc = 1\n",
		[]string{
			"config.toml:2:1: plugins.every.config.number: -6: want -5 or more",
			`config.toml:5:1: plugins.every.config.z_table."a b": "A": does not match [a-z0-9<>]+`,
			"config.toml:6:1: plugins.every.config.z_table.c: 1: want a string"}},
	"a value that is not one of the setting's": {"plugins.sysinfo.config.loads = \"hots\"", []string{
		`config.toml:1:1: plugins.sysinfo.config.loads: "hots": want "host" or "container"`}},
	"no manifest": {"[plugins.mknode]\n", []string{
		`config.toml:1:1: plugins.mknode: no manifest from /p/intercede-plugin-mknode: is the plugin installed there?; did you mean "mknod"?`}},
	"two plugins, no order": {"[plugins.one]\n[plugins.two]\n", []string{
		`config.toml:2:1: broker.order: one and two both take setxattr, lsetxattr: say which is asked first, such as order = ["one", "two"]`}},
	"two plugins, half an order": {"broker.order = [\"one\"]\n[plugins.one]\n[plugins.two]\n", []string{
		`config.toml:1:1: broker.order: one and two both take setxattr, lsetxattr: say which is asked first, such as order = ["one", "two"]`}},
	"several plugins": {"[plugins.one]\n[plugins.two.config]\nx = 1\n[plugins.mknod.config]\ndevices = 1\n", []string{
		`config.toml:2:1: broker.order: one and two both take setxattr, lsetxattr: say which is asked first, such as order = ["one", "two"]`,
		"config.toml:3:1: plugins.two.config.x: unknown key",
		"config.toml:5:1: plugins.mknod.config.devices: 1: want a list of strings"}},
	"disabled plugins are not looked at": {"[plugins.one]\n[plugins.two]\nenabled = false\nconfig.x = 1\n[plugins.none]\nenabled = false\n",
		nil},
}

func TestResolveProblems(t *testing.T) {
	for name, test := range resolveProblems {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, test.text)
			check(t, problems, test.want...)
			if (policy == nil) != (len(test.want) > 0) {
				t.Errorf("policy %v with problems %v", policy, problems)
			}
		})
	}
}

func TestResolveForeignProgram(t *testing.T) {
	doc, _ := config.Parse("[plugins.mknod]\npath = \"/opt/x\"", "config.toml", config.Options{})
	_, problems := Resolve(doc, Manifests{Read: map[string]*wire.Manifest{"mknod": {Name: "mount"}}})
	check(t, problems, `config.toml:1:1: plugins.mknod: /opt/x is the program of another plugin, "mount"`)
}

func TestResolveOrder(t *testing.T) {
	policy, problems := resolve(t, "broker.order = [\"two\", \"one\"]\n[plugins.one]\n[plugins.two]\n[plugins.mknod]\n[plugins.sysinfo]\n")
	check(t, problems)
	var got string
	for _, p := range policy.Plugins {
		got += p.Name + " "
	}
	if got != "two one mknod sysinfo " {
		t.Errorf("order %s", got)
	}
}

func TestResolvePlugin(t *testing.T) {
	policy, problems := resolve(t, "[plugins.mknod]\ntimeout = \"1s\"\non_failure = \"EPERM\"\n[plugins.sysinfo]\n")
	check(t, problems)
	mknod, sysinfo := policy.Plugins[0], policy.Plugins[1]
	if mknod.OnFailure.GetErrno() != int32(unix.EPERM) || mknod.Timeout.Seconds() != 1 || mknod.Path != "/p/intercede-plugin-mknod" {
		t.Errorf("mknod %+v", mknod)
	}
	if sysinfo.OnFailure.GetErrno() != int32(unix.EIO) || sysinfo.Timeout != policy.Broker.Deadline {
		t.Errorf("sysinfo %+v", sysinfo)
	}
}

func TestSettingsJSON(t *testing.T) {
	const defaults = `{"flag":false,"list":[],"number":9007199254740993,"text":"","z_table":{"x":"2","y":"\u003c1\u003e"}}`
	for name, test := range map[string]struct{ text, want string }{
		"defaults": {"[plugins.every]", defaults},
		"defaults spelled out": {`
			[plugins.every.config]
			z_table = { x = "2", y = '<1>' }
			text = ""
			number = 0x20_0000_0000_0001
			flag = false
			list = []`, defaults},
		"other values": {`
			[plugins.every.config]
			flag = true
			list = ["a\tb", "ü\u2028", '"', '\']
			number = -5
			z_table = {}`, `{"flag":true,"list":["a\tb","ü\u2028","\"","\\"],"number":-5,"text":"","z_table":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, test.text)
			check(t, problems)
			if got := policy.Plugins[0].SettingsJSON; got != test.want {
				t.Errorf("settings %s\nwant     %s", got, test.want)
			}
		})
	}
}

func TestResolveAfterProblems(t *testing.T) {
	doc, _ := config.Parse("broker.rate = true\n[plugins.a]\n", "config.toml", config.Options{})
	if policy, problems := Resolve(doc, Manifests{Read: map[string]*wire.Manifest{"a": {Name: "a"}}}); policy != nil || problems != nil {
		t.Errorf("Resolve gave %v, %v: want neither a policy nor further problems", policy, problems)
	}
}
