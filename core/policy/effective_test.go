package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

const incusPrefix = "security.syscalls.intercept."

func uid(id uint32) *uint32 { return &id }

// crio is a container as CRI-O describes it.
var crio = Description{
	ID: "3f2a77", Runtime: "oci", PeerUID: uid(0), Cgroups: []string{"/kubepods.slice/pod1/crio-3f2a77", "/"},
	Annotations: map[string]string{
		"io.kubernetes.cri-o.Name": "k8s_build_p1_ci_uid_0", "io.kubernetes.cri-o.ImageName": "quay.io/ci/build:v2",
		"io.kubernetes.cri-o.Labels": `{"app": "builder"}`, "io.kubernetes.cri-o.Namespace": "ci", "empty": "",
	},
}

func TestMatch(t *testing.T) {
	containerd := Description{Annotations: map[string]string{"io.kubernetes.cri.container-name": "web",
		"io.kubernetes.cri.image-name": "nginx", "io.kubernetes.cri-o.Name": "other"}}
	nerdctl := Description{Annotations: map[string]string{"nerdctl/name": "web", "team": "a"}}
	lxc := Description{ID: "c1", Runtime: "lxc", Name: "web1", Cookie: "tenant=7"}
	run := Description{ID: "0123", Runtime: "run"}
	for name, test := range map[string]struct {
		match     string
		container Description
		why       string // empty: it matches
	}{
		"everything":                  {``, crio, ""},
		"empty match":                 {`match = {}`, run, ""},
		"runtime":                     {`match.runtime = "oci"`, crio, ""},
		"another runtime":             {`match.runtime = "oci"`, run, `runtime "run" is not "oci"`},
		"id":                          {`match.id = "3f*"`, crio, ""},
		"several of one":              {`match.id = ["x", "3f*"]`, crio, ""},
		"none of several":             {`match.id = ["x", "y"]`, crio, `id "3f2a77" is not "x" or "y"`},
		"name of CRI-O":               {`match.name = "k8s_build_*_ci_*"`, crio, ""},
		"name of containerd":          {`match.name = "web"`, containerd, ""},
		"name of nerdctl":             {`match.name = "web"`, nerdctl, ""},
		"name that the intake has":    {`match.name = "web[0-9]"`, lxc, ""},
		"no name":                     {`match.name = "*"`, run, "no name"},
		"image of CRI-O":              {`match.image = "quay.io/ci/*"`, crio, ""},
		"image of containerd":         {`match.image = "nginx"`, containerd, ""},
		"no image":                    {`match.image = "*"`, nerdctl, "no image"},
		"annotation":                  {`match.annotations = { "io.kubernetes.cri-o.Namespace" = "c*" }`, crio, ""},
		"empty annotation":            {`match.annotations.empty = ""`, crio, ""},
		"another annotation":          {`match.annotations.empty = "?"`, crio, `annotation empty "" is not "?"`},
		"no annotation":               {`match.annotations.nothing = "*"`, crio, "no annotation nothing"},
		"label":                       {`match.labels.app = "builder"`, crio, ""},
		"label that is an annotation": {`match.labels.team = ["a", "b"]`, nerdctl, ""},
		"another label":               {`match.labels.app = "web"`, crio, `label app "builder" is not "web"`},
		"annotation is no label's":    {`match.annotations.app = "builder"`, crio, "no annotation app"},
		"peer":                        {`match.peer_uid = 0`, crio, ""},
		"one of several peers":        {`match.peer_uid = [1000, 0]`, crio, ""},
		"another peer":                {`match.peer_uid = 1000`, crio, `peer_uid "0" is not "1000"`},
		"no peer":                     {`match.peer_uid = 0`, lxc, "no peer_uid"},
		"cgroup":                      {`match.cgroup = "/kubepods.slice/*"`, crio, ""},
		"another cgroup": {`match.cgroup = "/user.slice*"`, crio,
			`cgroup "/kubepods.slice/pod1/crio-3f2a77", "/" is not "/user.slice*"`},
		"cookie":        {`match.cookie = "tenant=*"`, lxc, ""},
		"all must hold": {`match = { runtime = "oci", name = "*build*", peer_uid = 1 }`, crio, `peer_uid "0" is not "1"`},
		"what is long is cut": {`match.id = "x"`, Description{ID: strings.Repeat("é\x1b", 100)},
			"id \"" + strings.Repeat(`é\x1b`, 21) + `..." is not "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, "[plugins.mknod]\n[[container]]\nplugins.mknod.enabled = true\n"+test.match)
			check(t, problems)
			e := policy.For(test.container)
			if got := e.Rules[0]; got.Why != test.why || got.Matches != (test.why == "") {
				t.Errorf("%+v, want %q", got, test.why)
			}
		})
	}
}

// state is what a container has, a line for each plugin and setting, and each annotation that is ignored.
func state(e *Effective, plugins ...string) string {
	var b strings.Builder
	for _, p := range e.Plugins {
		if !slices.Contains(plugins, p.Name) {
			continue
		}
		fmt.Fprintf(&b, "%s %t: %s\n", p.Name, p.Enabled, p.Origin)
		for _, s := range p.Settings {
			fmt.Fprintf(&b, "%s.%s %s: %s\n", p.Name, s.Key, s.Value, s.Origin)
		}
	}
	for _, a := range e.Ignored {
		fmt.Fprintf(&b, "ignored %s (bad %t): %s\n", a.Name, a.Bad, a.Reason)
	}
	return b.String()
}

func TestEffective(t *testing.T) {
	const text = `[plugins.sysinfo]
[plugins.mknod]
enabled = false
config.devices = ["c 1:3"]

[[container]]
match.name = "build-*"
plugins.mknod.enabled = true

[[container]]
match.id = "b*"
plugins.mknod.config.devices = []
plugins.sysinfo = { enabled = false, config = { loads = "container" } }

[[container]]
match.peer_uid = 0
plugins.sysinfo.enabled = true
`
	for name, test := range map[string]struct {
		container Description
		want      string
	}{
		"no rule": {Description{ID: "a"}, `mknod false: config.toml:3: plugins.mknod.enabled
mknod.devices ["c 1:3"]: config.toml:4: plugins.mknod.config.devices
sysinfo true: config.toml:1: plugins.sysinfo
sysinfo.loads "host": default
`},
		"one rule": {Description{ID: "a", Name: "build-1"}, `mknod true: config.toml:8: container[0].plugins.mknod.enabled
mknod.devices ["c 1:3"]: config.toml:4: plugins.mknod.config.devices
sysinfo true: config.toml:1: plugins.sysinfo
sysinfo.loads "host": default
`},
		"the last rule wins": {Description{ID: "b", Name: "build-1", PeerUID: uid(0)},
			`mknod true: config.toml:8: container[0].plugins.mknod.enabled
mknod.devices []: config.toml:12: container[1].plugins.mknod.config.devices
sysinfo true: config.toml:17: container[2].plugins.sysinfo.enabled
sysinfo.loads "container": config.toml:13: container[1].plugins.sysinfo.config.loads
`},
		"switched off": {Description{ID: "b"}, `mknod false: config.toml:3: plugins.mknod.enabled
mknod.devices []: config.toml:12: container[1].plugins.mknod.config.devices
sysinfo false: config.toml:13: container[1].plugins.sysinfo.enabled
sysinfo.loads "container": config.toml:13: container[1].plugins.sysinfo.config.loads
`},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, text)
			check(t, problems)
			e := policy.For(test.container)
			if got := state(e, "mknod", "sysinfo"); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
			if before, _ := resolve(t, text); !samePolicy(before, policy) {
				t.Error("the policy is not as it was")
			}
		})
	}
}

const acceptAll = `
[[container]]
accept_annotations = ["security.syscalls.intercept.mount", "security.syscalls.intercept.mount.allowed",
  "security.syscalls.intercept.mount.fuse", "security.syscalls.intercept.mount.shift", "security.syscalls.intercept.bpf",
  "security.syscalls.intercept.bpf.devices", "security.syscalls.intercept.mknod", "security.syscalls.intercept.sysinfo"]
`

func TestAnnotations(t *testing.T) {
	const from = ": annotation security.syscalls.intercept."
	const by = ", accepted by config.toml:3\n"
	mount := func(enabled, allowed, fuse, shift string) string {
		lines := ""
		for _, line := range [][2]string{{" ", enabled}, {".allowed ", allowed}, {".fuse ", fuse}, {".shift ", shift}} {
			value, origin, changed := strings.Cut(line[1], " from ")
			switch {
			case changed:
				lines += "mount" + line[0] + value + from + origin + by
			default:
				lines += "mount" + line[0] + value + ": default\n"
			}
		}
		return lines
	}
	for name, test := range map[string]struct {
		annotations map[string]string // without incusPrefix
		plugin      string
		want        string
	}{
		"none":  {nil, "mount", mount("false", "[]", "{}", "false")},
		"empty": {map[string]string{"mount": "", "mount.allowed": ""}, "mount", mount("false", "[]", "{}", "false")},
		"Incus's mount": {map[string]string{"mount": "true", "mount.allowed": "ext4, btrfs,ext4", "mount.fuse": "xfs=fuse-xfs,ntfs=ntfs-3g"},
			"mount",
			mount("true from mount", `["ext4","btrfs"] from mount.allowed`, `{"ntfs":"ntfs-3g","xfs":"fuse-xfs"} from mount.fuse`, "false")},
		"shifted": {map[string]string{"mount": "YES", "mount.allowed": "ext4", "mount.shift": "1"}, "mount",
			mount("true from mount", `["ext4"] from mount.allowed`, "{}", "true from mount.shift")},
		"bad values": {map[string]string{"mount": "perhaps\x1b", "mount.allowed": "ext4,,x", "mount.fuse": "ext4",
			"mount.shift": strings.Repeat("x", 5000)}, "mount",
			mount("false", "[]", "{}", "false") + `ignored security.syscalls.intercept.mount (bad true): "perhaps\x1b": want true or false
ignored security.syscalls.intercept.mount.allowed (bad true): "ext4,,x": want names with commas between them, such as "ext4,btrfs"
ignored security.syscalls.intercept.mount.fuse (bad true): "ext4": want pairs with commas between them, such as "ext4=fuse2fs"
ignored security.syscalls.intercept.mount.shift (bad true): 5000 bytes: it may have 4096
`},
		"values that the manifest refuses": {map[string]string{"mount.allowed": "../x", "mount.fuse": "ext4=\xff",
			"mount.shift": strings.Repeat("x", 70)}, "mount",
			mount("false", "[]", "{}", "false") + `ignored security.syscalls.intercept.mount.allowed (bad true): "../x": want something like "ext4"
ignored security.syscalls.intercept.mount.fuse (bad true): "ext4=\xff": not UTF-8
ignored security.syscalls.intercept.mount.shift (bad true): "` + strings.Repeat("x", 64) + `...": want true or false
`},
		"many values that it refuses": {map[string]string{"mount.allowed": "A,B,C"}, "mount",
			mount("false", "[]", "{}", "false") +
				"ignored security.syscalls.intercept.mount.allowed (bad true): \"A\": want something like \"ext4\"\n"},
		"more bad pairs": {map[string]string{"mount.fuse": "a=b,a=c"}, "mount",
			mount("false", "[]", "{}", "false") + "ignored security.syscalls.intercept.mount.fuse (bad true): \"a\" is there twice\n"},
		"bpf": {map[string]string{"bpf": "true", "bpf.devices": "true"}, "bpf",
			"bpf true" + from + "bpf" + by + "bpf.devices true" + from + "bpf.devices" + by},
		"off": {map[string]string{"sysinfo": "false"}, "sysinfo", "sysinfo false" + from + "sysinfo" + by + "sysinfo.loads \"host\": default\n"},
		"not accepted": {map[string]string{"setxattr": "true"}, "setxattr",
			"setxattr true: config.toml:1: plugins.setxattr\n" +
				"ignored security.syscalls.intercept.setxattr (bad false): no rule that matches accepts it\n"},
		"of a plugin that no container has": {map[string]string{"sched_setscheduler": "true"}, "sched", ""},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, "[plugins.setxattr]"+acceptAll)
			check(t, problems)
			c := Description{Annotations: map[string]string{}}
			for key, value := range test.annotations {
				c.Annotations[incusPrefix+key] = value
			}
			if got := state(policy.For(c), test.plugin); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

// Annotations change what the rules say, and what the plugin refuses of it is taken back.
func TestAnnotationsOverRules(t *testing.T) {
	const rules = `
[plugins.mount]
config = { allowed = ["xfs"], fuse = { ntfs = "ntfs-3g" } }
[[container]]
match.id = "closed"
plugins.mount.config.shift = true
accept_annotations = []
`
	const before = `{"allowed":["xfs"],"fuse":{"ntfs":"ntfs-3g"},"shift":false}`
	for name, test := range map[string]struct {
		id          string
		annotations map[string]string
		want        string
		fallback    string
	}{
		"none":           {"x", nil, before, ""},
		"a switch alone": {"x", map[string]string{"mount": "on"}, before, ""},
		"lists as a whole": {"x", map[string]string{"mount.allowed": "ext4", "mount.fuse": "btrfs=b"},
			`{"allowed":["ext4"],"fuse":{"btrfs":"b"},"shift":false}`, before},
		"moved to a handler": {"x", map[string]string{"mount.fuse": "xfs=fuse-xfs"},
			`{"allowed":[],"fuse":{"xfs":"fuse-xfs"},"shift":false}`, before},
		"allowed and a handler": {"x", map[string]string{"mount.allowed": "ext4,btrfs", "mount.fuse": "ext4=fuse2fs"},
			`{"allowed":["btrfs"],"fuse":{"ext4":"fuse2fs"},"shift":false}`, before},
		"shift": {"x", map[string]string{"mount.shift": "yes"},
			`{"allowed":["xfs"],"fuse":{"ntfs":"ntfs-3g"},"shift":true}`, before},
		"a later rule accepts nothing": {"closed", map[string]string{"mount.allowed": "btrfs"},
			`{"allowed":["xfs"],"fuse":{"ntfs":"ntfs-3g"},"shift":true}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, acceptAll+rules)
			check(t, problems)
			c := Description{ID: test.id, Annotations: map[string]string{}}
			for key, value := range test.annotations {
				c.Annotations[incusPrefix+key] = value
			}
			e := policy.For(c)
			p := e.Plugin("mount")
			if p.SettingsJSON() != test.want || p.Fallback() != test.fallback {
				t.Errorf("%s, without annotations %s; want %s, %s", p.SettingsJSON(), p.Fallback(), test.want, test.fallback)
			}
			if test.fallback == "" {
				return
			}
			e.FallBack("mount", "it will not have it\nat all")
			if p.SettingsJSON() != test.fallback || p.Fallback() != "" || len(e.Ignored) != len(test.annotations) ||
				e.Ignored[0].Reason != "it will not have it" {
				t.Errorf("after falling back: %s, ignored %+v", p.SettingsJSON(), e.Ignored)
			}
		})
	}
}

// What a filter notifies must be enough for every container.
func TestWidest(t *testing.T) {
	manifests := testManifests(t)
	for name, test := range map[string]struct {
		text string
		want string // syscalls of mount and bpf
	}{
		"defaults": {"[plugins.mount]\n[plugins.bpf]", "mount "},
		"config":   {"[plugins.mount.config]\nallowed = [\"ext4\"]\n[plugins.bpf.config]\ndevices = true", "bpf mount fsopen "},
		"rules": {"[plugins.mount]\n[plugins.bpf]\n[[container]]\nplugins.mount.config.allowed = [\"ext4\"]\n" +
			"plugins.bpf.config.devices = true\n[[container]]\nplugins.mount.config.allowed = []", "bpf mount fsopen "},
		"rules for another": {"[plugins.mount]\n[plugins.bpf]\n[[container]]\nplugins.mount.config.shift = true\n" +
			"plugins.bpf.config.devices = false", "mount "},
		"accepted annotations": {"[plugins.mount]\n[plugins.bpf]\n[[container]]\n" +
			"accept_annotations = [\"security.syscalls.intercept.mount.allowed\", \"security.syscalls.intercept.bpf.devices\"]",
			"bpf mount fsopen "},
	} {
		t.Run(name, func(t *testing.T) {
			policy, problems := resolve(t, test.text)
			check(t, problems)
			got := ""
			for _, p := range policy.Plugins {
				for _, s := range wire.Narrow(manifests.Read[p.Name], p.WidestJSON).GetSyscalls() {
					got += s.GetName() + " "
				}
			}
			if got != test.want {
				t.Errorf("syscalls %s, want %s", got, test.want)
			}
		})
	}
}

func TestEffectiveJSON(t *testing.T) {
	policy, problems := resolve(t, "[plugins.sysinfo]\n[[container]]\nmatch.id = \"x*\"\n"+
		"accept_annotations = [\"security.syscalls.intercept.sysinfo\"]")
	check(t, problems)
	text, err := json.Marshal(policy.For(Description{ID: "x1", Runtime: "oci", PeerUID: uid(0),
		Annotations: map[string]string{incusPrefix + "sysinfo": "false"}}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"container":{"id":"x1","runtime":"oci","annotations":{"security.syscalls.intercept.sysinfo":"false"},"peer_uid":0},` +
		`"rules":[{"file":"config.toml","line":2,"key":"container[0]","matches":true}],` +
		`"plugins":[{"name":"sysinfo","enabled":false,"origin":{"file":"config.toml","line":4,"key":"container[0].accept_annotations",` +
		`"annotation":"security.syscalls.intercept.sysinfo"},` +
		`"settings":[{"key":"loads","value":"host","origin":{}}]}],"ignored":[]}`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
}

// checkEffective holds what containers get against the manifests, whatever their annotations.
func checkEffective(t *testing.T, policy *Policy) {
	t.Helper()
	c := crio
	c.Annotations = map[string]string{}
	for _, a := range config.Annotations {
		c.Annotations[a.Name] = "true"
	}
	for _, container := range []Description{{}, crio, c} {
		checkSettings(t, policy.For(container))
	}
}

func checkSettings(t *testing.T, e *Effective) {
	t.Helper()
	for _, p := range e.Plugins {
		if len(p.Settings) != len(p.declared) {
			t.Errorf("%s: %d settings, the manifest has %d", p.Name, len(p.Settings), len(p.declared))
		}
		for _, s := range p.Settings {
			if err := wire.CheckSetting(p.declared[s.Key], s.Value); err != nil {
				t.Errorf("%s.%s: %v", p.Name, s.Key, err)
			}
			if text, err := config.Canonical(s.Value); err != nil || string(text) != string(s.Value) {
				t.Errorf("%s.%s: %s, canonical is %s, %v", p.Name, s.Key, s.Value, text, err)
			}
		}
	}
}

// FuzzAnnotations: whatever the values, every setting is one that the manifest takes, without the annotations too, and
// what is ignored has a bounded reason of one line.
func FuzzAnnotations(f *testing.F) {
	doc, _ := config.Parse(acceptAll+"[plugins.mount.config]\nallowed = [\"ext4\"]\nfuse = { ntfs = \"n\" }", "config.toml", config.Options{})
	policy, problems := Resolve(doc, testManifests(f))
	if problems != nil {
		f.Fatal(problems)
	}
	f.Add("true", "ext4,btrfs", "xfs=fuse-xfs", "false")
	f.Add("No", "ntfs", "ext4=a", "1")
	f.Add("\x00", ",", "=", "maybe")
	f.Fuzz(func(t *testing.T, enabled, allowed, fuse, shift string) {
		e := policy.For(Description{Annotations: map[string]string{
			incusPrefix + "mount": enabled, incusPrefix + "mount.allowed": allowed, incusPrefix + "mount.fuse": fuse,
			incusPrefix + "mount.shift": shift,
			incusPrefix + "bpf.devices": enabled, incusPrefix + "mknod": shift,
		}})
		checkSettings(t, e)
		for _, a := range e.Ignored {
			if len(a.Reason) > 1000 || strings.ContainsAny(a.Reason, "\n\r\x1b") {
				t.Errorf("%s: reason %q", a.Name, a.Reason)
			}
		}
		e.FallBack("mount", "refused")
		checkSettings(t, e)
	})
}
