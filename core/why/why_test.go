package why

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// container is a good one with one plugin.
func container(change func(*broker.ContainerFacts)) *broker.ContainerFacts {
	c := &broker.ContainerFacts{
		ContainerStatus: broker.ContainerStatus{ID: "c1", Runtime: "oci", Listeners: 1, Calls: 5},
		UserNamespace:   target.NamespaceID{Dev: 4, Ino: 5}, MaxInflight: 16,
		Served: []broker.PluginFacts{{
			Status:   launcher.Status{Name: "mknod", State: launcher.Running},
			Syscalls: []string{"mknod", "mknodat"}, CallerCapabilities: []string{"CAP_MKNOD"},
		}},
		Policy: &policy.Effective{Rules: []policy.RuleOutcome{{File: "c.toml", Line: 3}, {File: "c.toml", Line: 9, Matches: true}},
			Plugins: []policy.PluginState{{Name: "mknod", Enabled: true, Origin: policy.Origin{File: "c.toml", Line: 10, Key: "plugins.mknod"}}}},
	}
	if change != nil {
		change(c)
	}
	return c
}

// process is a good one of the container.
func process(change func(*Process)) *Process {
	p := &Process{
		PID: 7, Seccomp: 2, Filters: 1, NamespaceID: target.NamespaceID{Dev: 4, Ino: 5}, Capabilities: target.CapabilitySet(unix.CAP_MKNOD),
	}
	if change != nil {
		change(p)
	}
	return p
}

// with is about a good container that was changed so.
func with(change func(*broker.ContainerFacts)) Facts { return Facts{Container: container(change)} }

// of is about a good process of a good container that was changed so.
func of(change func(*Process)) Facts {
	return Facts{Process: process(change), Container: container(nil)}
}

func TestExplain(t *testing.T) {
	now := time.Now()
	good := Facts{Process: process(nil), Container: container(nil), Now: now}
	for _, f := range Explain(good).Findings {
		if f.Level != OK || f.Remedy != "" {
			t.Errorf("a good one: %+v", f)
		}
	}
	for name, test := range map[string]struct {
		facts Facts
		level Level
		want  string // of the text
	}{
		"rule":   {good, OK, "the rules at c.toml:9"},
		"plugin": {good, OK, "mknod runs and serves mknod, mknodat (enabled: c.toml:10: plugins.mknod)"},
		"no rule": {with(func(c *broker.ContainerFacts) {
			c.Policy.Rules = nil
		}), OK, "no [[container]] rule matches"},
		"no filter":   {of(func(p *Process) { p.Seccomp, p.Filters = 0, 0 }), Problem, "no seccomp filter"},
		"old kernel":  {of(func(p *Process) { p.Filters = 0 }), OK, "has a seccomp filter. The kernel"},
		"of the host": {Facts{Process: process(func(p *Process) { p.OfHost = true })}, Note, "in the host's user namespace"},
		"nested":      {of(func(p *Process) { p.NamespaceID.Ino = 6 }), Note, "of its own within"},
		"no capability": {of(func(p *Process) {
			p.Capabilities = 0
		}), Problem, "lacks CAP_MKNOD, which the plugin mknod asks for"},
		"not attached": {Facts{Process: process(nil)}, Problem, "No attached container"},
		"lost":         {Facts{Lost: &broker.LostContainer{ID: "c2"}}, Problem, "c2 is LOST"},
		"plain": {
			Facts{Plain: &record.Plain{ID: "c3", Reason: "no daemon"}}, Problem,
			"c3 is PLAIN: it was created without interception, because no daemon.",
		},
		"no listener":  {with(func(c *broker.ContainerFacts) { c.Listeners = 0 }), Problem, "no listener any more"},
		"LXC, between": {with(func(c *broker.ContainerFacts) { c.Listeners, c.Runtime = 0, "lxc" }), OK, "is attached"},
		"privileged": {with(func(c *broker.ContainerFacts) {
			c.Privileged = true
		}), Note, "no user namespace of its own"},
		"at its limit": {with(func(c *broker.ContainerFacts) {
			c.Inflight, c.Paused = 16, 2
		}), Note, "16 of 16; listeners that wait: 2"},
		"no plugin": {with(func(c *broker.ContainerFacts) { c.Served = nil }), Problem, "has no plugin"},
		"bad annotation": {Facts{Container: container(func(c *broker.ContainerFacts) {
			c.Policy.Ignored = []policy.IgnoredAnnotation{{Name: "a", Reason: "no", Bad: true}}
		})}, Problem, "annotation a is ignored: no"},
		"quarantined": {Facts{Now: now, Container: container(func(c *broker.ContainerFacts) {
			c.Quarantines = []broker.Quarantine{{Plugin: "mknod", Reason: "it died", Until: now.Add(20 * time.Second)}}
		})}, Problem, "quarantined for the plugin mknod, for 20s: it died"},
		"hangs": {Facts{Container: container(func(c *broker.ContainerFacts) {
			c.Quarantines = []broker.Quarantine{{Reason: "memory hangs"}}
		})}, Problem, "quarantined for all plugins, until that is over: memory hangs"},
		"settings refused": {with(func(c *broker.ContainerFacts) {
			c.Served[0].RefusedContainer = "bad"
		}), Problem, "does not serve the container: bad"},
		"settings ignored": {with(func(c *broker.ContainerFacts) {
			c.Served[0].FellBack = "bad"
		}), Problem, "ignores settings of the annotations: bad"},
		"plugin down": {with(func(c *broker.ContainerFacts) {
			c.Served[0].State, c.Served[0].Error = launcher.BackingOff, "it died"
		}), Problem, "mknod is backing off: it died"},
		"switched off": {with(func(c *broker.ContainerFacts) {
			c.Served[0].Syscalls = nil
		}), Note, "serves no system call"},
		"policy is unknown": {with(func(c *broker.ContainerFacts) { c.Policy = nil }), OK, "serves mknod, mknodat."},
	} {
		t.Run(name, func(t *testing.T) {
			found := false
			for _, f := range Explain(test.facts).Findings {
				found = found || f.Level == test.level && strings.Contains(f.Text, test.want)
				if f.Level == Problem && f.Remedy == "" {
					t.Errorf("what is to be done? %s", f.Text)
				}
			}
			if !found {
				t.Errorf("no %s %q: %+v", test.level, test.want, Explain(test.facts).Findings)
			}
		})
	}
}

func TestParseProcess(t *testing.T) {
	p := parseProcess([]byte("Name:\tsh\\n x\nNSpid:\t77\t9\t1\nCapEff:\t0000000008000000\nSeccomp:\t2\nSeccomp_filters:\t3\n" +
		"NSpid\nSeccomp:\n"))
	if p.Comm != `sh\n x` || p.ContainerPID != 1 || p.Effective != "CAP_MKNOD" || p.Filters != 3 {
		t.Errorf("got %+v", p)
	}
}

func TestReadProcess(t *testing.T) {
	p, err := ReadProcess(os.Getpid())
	if err != nil || p.PID != os.Getpid() || !p.OfHost || p.Comm == "" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := ReadProcess(1 << 30); err == nil || !strings.Contains(err.Error(), "no process") {
		t.Errorf("got %v", err)
	}
}
