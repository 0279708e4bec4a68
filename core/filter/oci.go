package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/intercede/intercede/internal/wire"
)

const (
	actAllow  = "SCMP_ACT_ALLOW"
	actNotify = "SCMP_ACT_NOTIFY"

	flagSpecAllow    = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
	flagWaitKillable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
)

// Listener is what a profile says of the listener.
type Listener struct {
	Path         string // of the socket that the runtime hands it to
	WaitKillable bool   // kernel and runtime take flagWaitKillable
}

// startup are the calls that some runtime makes between loading the filter and handing over the listener, when nobody
// answers: runc write (it refuses it) and fcntl, crun and youki sendmsg.
var startup = []string{"write", "fcntl", "sendmsg"}

// OCI is a seccomp profile that makes a runtime notify what the manifests take and hand over the listener: JSON,
// readable both as linux.seccomp of an OCI runtime's config.json and as a profile of podman and docker.
//
// Without a base (empty), the rest is allowed. A base is a profile of either form; its every other field stays as it
// is. The plugins' rules come first, also before what the base denies; what they leave over of a call keeps the base's
// action. libseccomp lets an unconditional rule swallow conditional ones, so a rule of the base on such a call is
// replaced by rules for the rest. A base that notifies by itself is refused, and one whose rules for such a call cannot
// be told apart from the plugins'. If the base lists architectures, those of this machine are added.
//
// A base that has this listener already was made here, for other manifests perhaps. What was added to it is taken out
// first, as far as it tells what it was; see profile.undo.
func OCI(base []byte, manifests []*wire.Manifest, listener Listener) ([]byte, error) {
	if !filepath.IsAbs(listener.Path) {
		return nil, fmt.Errorf("seccomp profile: listener path %q: want an absolute path", listener.Path)
	}
	p, earlier, err := readProfile(base, listener.Path)
	if err != nil {
		return nil, fmt.Errorf("base profile: %w", err)
	}
	captures, err := collect(append(slices.Clone(manifests), earlier))
	if err != nil {
		return nil, err
	}
	if err := refuse(captures, startup, "runtimes make it themselves before they hand over the listener"); err != nil {
		return nil, err
	}
	if err := errors.Join(notifyWhole(captures, p), checkMultiplexed(captures)); err != nil {
		return nil, err
	}
	groups := groupByMatches(captures)
	notify, err := notifyRules(groups)
	if err != nil {
		return nil, err
	}
	others, err := p.outside(groups)
	if err != nil {
		return nil, fmt.Errorf("base profile: %w", err)
	}
	p.raw.set("syscalls", append(notify, others...))
	p.raw.set("listenerPath", listener.Path)
	if listener.WaitKillable && len(notify) > 0 { // the kernel takes the flag for a filter with a listener alone
		p.addWaitKillable()
	}
	p.coverArchitectures()
	return encode(p.raw)
}

// profile is a seccomp profile in one of the forms, of which runtime-spec's is a subset of containers-common's.
type profile struct {
	DefaultAction string            `json:"defaultAction"`
	ListenerPath  string            `json:"listenerPath"`
	Syscalls      []json.RawMessage `json:"syscalls"`
	Architectures []string          `json:"architectures"`
	ArchMap       []json.RawMessage `json:"archMap"`
	Flags         []string          `json:"flags"` // nil: the runtime's default

	raw object
}

// earlierName stands for the plugins that a base has the rules of.
const earlierName = "(earlier)"

// readProfile reads a base. The manifest is of what it notifies over the listener itself, and must go on to.
func readProfile(base []byte, listener string) (*profile, *wire.Manifest, error) {
	p, err := parseProfile(base)
	earlier := &wire.Manifest{Name: earlierName}
	if err != nil || p.ListenerPath == "" {
		return p, earlier, err
	}
	if p.ListenerPath != listener {
		return nil, nil, fmt.Errorf("it has a listenerPath, %q: a container has one listener, and that is intercede's", p.ListenerPath)
	}
	still, err := p.undo()
	for _, name := range still {
		s := &wire.Syscall{Name: name}
		if _, ok := wire.MultiplexerOf(name); ok { // a profile has it for all architectures alike
			s.Compat = wire.Compat_COMPAT_CONTINUE
		}
		earlier.Syscalls = append(earlier.Syscalls, s)
	}
	return p, earlier, err
}

func parseProfile(base []byte) (*profile, error) {
	if len(bytes.TrimSpace(base)) == 0 {
		p := &profile{raw: object{}}
		p.raw.set("defaultAction", actAllow)
		p.raw.set("architectures", profileNames())
		return p, nil
	}
	p := &profile{}
	if err := json.Unmarshal(base, p); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(base, &p.raw); err != nil {
		return nil, err
	}
	switch {
	case p.DefaultAction == "":
		return nil, errors.New("no defaultAction: give a seccomp profile, such as linux.seccomp of a config.json")
	case p.DefaultAction == actNotify:
		return nil, errors.New("its defaultAction is SCMP_ACT_NOTIFY: a container has one listener, and that is intercede's")
	}
	return p, nil
}

// addWaitKillable adds the flag to those of the profile. runc and crun take SPEC_ALLOW where a profile has no list, and
// where it has one no flag but those in it.
func (p *profile) addWaitKillable() {
	flags := p.Flags
	if flags == nil {
		flags = []string{flagSpecAllow}
	}
	p.raw.set("flags", withMissing(flags, []string{flagWaitKillable}))
}

// profileNames are this machine's architectures as profiles name them.
func profileNames() []string {
	var names []string
	for _, a := range architectures {
		names = append(names, a.profile)
	}
	return names
}

// coverArchitectures adds this machine's architectures to the profile's list, if it has one: where there is a list,
// libseccomp kills the callers of all others.
func (p *profile) coverArchitectures() {
	if len(p.Architectures) > 0 {
		p.raw.set("architectures", withMissing(p.Architectures, profileNames()))
	}
	if len(p.ArchMap) > 0 {
		p.raw.set("archMap", coverMap(p.ArchMap))
	}
}

// coverMap adds the compatibility architectures to the native one's entry of an archMap.
func coverMap(entries []json.RawMessage) []json.RawMessage {
	native, compat := architectures[0].profile, profileNames()[1:]
	covered := slices.Clone(entries)
	for i, text := range covered {
		var entry struct {
			Architecture     string   `json:"architecture"`
			SubArchitectures []string `json:"subArchitectures"`
		}
		var raw object
		if json.Unmarshal(text, &entry) != nil || json.Unmarshal(text, &raw) != nil || entry.Architecture != native {
			continue
		}
		raw.set("subArchitectures", withMissing(entry.SubArchitectures, compat))
		covered[i] = raw.text()
		return covered
	}
	entry := object{}
	entry.set("architecture", native)
	entry.set("subArchitectures", compat)
	return append(covered, entry.text())
}

func withMissing(have, want []string) []string {
	all := slices.Clone(have)
	for _, name := range want {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
