// Package why explains why the calls of a process or a container are served as they are: what is as it should be, what
// is not, and what to do about it.
package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/sdk/target"
)

// Report is the answer for one container, or for a process that is in none.
type Report struct {
	Process   *Process               `json:"process,omitempty"`   // that was asked for
	Container *broker.ContainerFacts `json:"container,omitempty"` // an attached one
	Findings  []Finding              `json:"findings"`
}

// Finding is one thing that was looked at.
type Finding struct {
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Level says what a finding means.
type Level string

const (
	OK      Level = "ok"
	Note    Level = "note"    // it may be meant so
	Problem Level = "problem" // calls are not intercepted, or get a failure verdict
)

// Facts are what a report is made of.
type Facts struct {
	Process   *Process
	Container *broker.ContainerFacts // nil: none that is attached
	Lost      *broker.LostContainer
	Plain     *record.Plain
	Now       time.Time
}

// Explain makes the report.
func Explain(f Facts) Report {
	r := &Report{Process: f.Process, Container: f.Container, Findings: []Finding{}}
	if f.Process != nil {
		r.explainProcess(f.Process, f.Container)
	}
	if f.Container == nil {
		r.explainAbsence(&f)
		return *r
	}
	r.explainContainer(f.Container, f.Now)
	for i := range f.Container.Served {
		r.explainPlugin(f.Container, &f.Container.Served[i], f.Process)
	}
	return *r
}

func (r *Report) add(level Level, remedy, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{level, fmt.Sprintf(format, args...), remedy})
}

func (r *Report) explainProcess(p *Process, c *broker.ContainerFacts) {
	switch {
	case p.OfHost:
		r.add(Note, "Give the container a user namespace, if more than sysinfo is to be served: podman --userns=auto, docker userns-remap, "+
			"lxc.idmap.",
			"The process is in the host's user namespace: only plugins that serve any container are asked (sysinfo).")
	case c != nil && p.NamespaceID != c.UserNamespace:
		r.add(Note, "", "The process is in a user namespace of its own within the container: "+
			"what plugins do with privilege is not done for it.")
	default:
		r.add(OK, "", "The process is in a user namespace.")
	}
	switch {
	case p.Seccomp == 0:
		r.add(Problem, "Create the container with the filter: by `intercede-runc` as its runtime, or with the profile that "+
			"`intercede profile` prints.",
			"The process has no seccomp filter: none of its calls is notified.")
	case p.Filters > 0:
		r.add(OK, "", "The process has a seccomp filter (number of filters: %d). The kernel does not tell whether one notifies.",
			p.Filters)
	default:
		r.add(OK, "", "The process has a seccomp filter. The kernel does not tell whether it notifies.")
	}
}

// explainAbsence is for what belongs to no attached container.
func (r *Report) explainAbsence(f *Facts) {
	switch {
	case f.Lost != nil:
		r.add(Problem, "Create the container anew. So that it does not happen again, start the daemon by systemd, or by "+
			"`intercede keep -- intercede serve`.",
			"Container %s is LOST: its listener ended with an earlier daemon, and its calls get ENOSYS.", f.Lost.ID)
	case f.Plain != nil:
		r.add(Problem, "Create the container anew while the daemon runs. "+
			"`on_missing = \"fail\"` in [oci_runtime] refuses such containers.",
			"Container %s is PLAIN: it was created without interception, because %s.", f.Plain.ID, f.Plain.Reason)
	default:
		r.add(Problem, "Create the container by `intercede-runc`, or with the profile that `intercede profile` prints, "+
			"while the daemon runs. `intercede check` and `intercede doctor` find what is in the way.",
			"No attached container: its runtime has not handed a listener to this daemon.")
	}
}

func (r *Report) explainContainer(c *broker.ContainerFacts, now time.Time) {
	if c.Listeners == 0 && c.Runtime != "lxc" {
		r.add(Problem, "Create the container anew.", "The container has no listener any more.")
	} else {
		r.add(OK, "", "The container is attached. Listeners: %d; calls received: %d; failed: %d.", c.Listeners, c.Calls, c.Failures)
	}
	if c.Privileged {
		r.add(Note, "", "The container has no user namespace of its own: plugins that serve any container are asked alone.")
	}
	for _, q := range c.Quarantines {
		plugin, until := "all plugins", "until that is over"
		if q.Plugin != "" {
			plugin = "the plugin " + q.Plugin
		}
		if !q.Until.IsZero() {
			until = "for " + max(q.Until.Sub(now), 0).Round(time.Second).String()
		}
		r.add(Problem, "Find out what the container does there: the text says what harmed. Its calls are served again by themselves.",
			"The container is quarantined for %s, %s: %s. Its calls get the failure verdict.", plugin, until, q.Reason)
	}
	if c.Inflight >= c.MaxInflight || c.Paused > 0 {
		r.add(Note, "Raise `max_inflight` or `rate` in [broker], if the container may have more.",
			"The container is at its limits, and further calls wait in the kernel. Calls being handled: %d of %d; listeners that wait: %d.",
			c.Inflight, c.MaxInflight, c.Paused)
	}
	r.explainPolicy(c)
}

// explainPolicy says which rules of the config apply.
func (r *Report) explainPolicy(c *broker.ContainerFacts) {
	if c.Policy != nil {
		var rules []string
		for _, rule := range c.Policy.Rules {
			if rule.Matches {
				rules = append(rules, fmt.Sprintf("%s:%d", rule.File, rule.Line))
			}
		}
		from := "the [plugins] tables: no [[container]] rule matches"
		if len(rules) > 0 {
			from = "the rules at " + strings.Join(rules, ", ")
		}
		r.add(OK, "", "Its policy is of %s.", from)
		for _, a := range c.Policy.Ignored {
			if a.Bad {
				r.add(Problem, "Correct the annotation, and create the container anew.",
					"The annotation %s is ignored: %s.", a.Name, a.Reason)
			}
		}
	}
	if len(c.Unnotified) > 0 {
		r.add(Note, "Create the container anew.", "Its filter, which is older than its policy, may not notify %s: the kernel has these calls.",
			strings.Join(c.Unnotified, ", "))
	}
	if len(c.Served) == 0 {
		r.add(Problem, "Enable a plugin in the config, or by a [[container]] rule that matches; `intercede policy explain` "+
			"shows why none is. Then create the container anew.",
			"The container has no plugin: all its calls go on in the kernel.")
	}
}

func (r *Report) explainPlugin(c *broker.ContainerFacts, p *broker.PluginFacts, process *Process) {
	syscalls := strings.Join(p.Syscalls, ", ")
	switch {
	case p.RefusedContainer != "":
		r.add(Problem, "Correct the plugin's settings in the config, then `intercede reload --running`, or create the container anew.",
			"The plugin %s does not serve the container: %s. Its calls (%s) get the failure verdict.", p.Name, p.RefusedContainer, syscalls)
	case p.State != launcher.Running:
		r.add(Problem, "See the daemon's log. The plugin is started again by itself.",
			"The plugin %s is %s: %s.", p.Name, p.State, p.Error)
	case len(p.Syscalls) == 0:
		r.add(Note, "Its settings switch its system calls on: see the plugin's page.",
			"The plugin %s serves no system call with the container's settings.", p.Name)
	default:
		r.add(OK, "", "The plugin %s runs and serves %s%s.", p.Name, syscalls, enabledBy(c, p.Name))
	}
	if p.FellBack != "" {
		r.add(Problem, "Correct the container's annotations, and create it anew.",
			"The plugin %s ignores settings of the annotations: %s.", p.Name, p.FellBack)
	}
	if process == nil || process.OfHost {
		return
	}
	if missing := missing(p.CallerCapabilities, process.Capabilities); len(missing) > 0 {
		r.add(Problem, fmt.Sprintf("Give the container the capability: podman run --cap-add %s, or what the runtime has for it.",
			strings.ToLower(strings.TrimPrefix(missing[0], "CAP_"))),
			"The process lacks %s, which the plugin %s asks for: its calls go on in the kernel, which refuses them.",
			strings.Join(missing, ", "), p.Name)
	}
}

// enabledBy says where the container has the plugin from; "": that is not known.
func enabledBy(c *broker.ContainerFacts, plugin string) string {
	if c.Policy == nil {
		return ""
	}
	state := c.Policy.Plugin(plugin)
	if state == nil {
		return ""
	}
	return fmt.Sprintf(" (enabled: %v)", state.Origin)
}

// missing returns the capabilities that the process does not have effective.
func missing(asked []string, effective target.Capabilities) []string {
	return slices.DeleteFunc(slices.Clone(asked), func(name string) bool {
		c, err := target.ParseCapability(name)
		return err == nil && effective.Has(c)
	})
}
