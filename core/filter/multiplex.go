package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"github.com/seccomp/libseccomp-golang"
)

// checkNative refuses to say something of the other architectures' callers of a call that the native one lacks, or to
// take those whose arguments nobody sees.
func (c *capture) checkNative(compat wire.Compat) error {
	if _, native := c.numbers[architectures[0]]; !native && compat != wire.Compat_COMPAT_TAKE {
		return errors.New("64-bit programs have no such call: leave compat out")
	}
	if m, ok := wire.MultiplexerOf(c.name); ok && compat == wire.Compat_COMPAT_TAKE {
		return fmt.Errorf("i386 programs reach it through %s(2) too, which hides the arguments: set compat", m.Name)
	}
	return nil
}

// multiplex leaves the native number alone of what no plugin wants, or refuses, on other architectures, and captures
// what multiplexers stand for of the calls that are refused there.
func multiplex(captures map[string]*capture) error {
	var refused []*capture
	for _, c := range captures {
		if !slices.ContainsFunc(c.compat, func(w wire.Compat) bool { return w != wire.Compat_COMPAT_CONTINUE }) {
			c.numbers = map[architecture]int32{architectures[0]: c.numbers[architectures[0]]}
		}
		if slices.Contains(c.compat, wire.Compat_COMPAT_REFUSE) {
			refused = append(refused, c)
		}
	}
	var faults []error
	for _, c := range refused {
		if m, ok := wire.MultiplexerOf(c.name); ok {
			faults = append(faults, c.behindOf(m, captures))
		}
	}
	return errors.Join(faults...)
}

// behindOf captures what the multiplexer stands for of c.
func (c *capture) behindOf(m wire.Multiplexer, captures map[string]*capture) error {
	i386 := slices.IndexFunc(architectures, func(a architecture) bool { return a.scmp == seccomp.ArchX86 })
	if i386 < 0 {
		return nil
	}
	through := captures[m.Name]
	switch {
	case through == nil:
		nr, _ := architectures[i386].number(m.Name)
		through = &capture{name: m.Name, numbers: map[architecture]int32{architectures[i386]: nr}, behind: map[uint32]string{}, mask: m.Mask}
		captures[m.Name] = through
	case through.behind == nil && slices.Equal(through.plugins, []string{earlierName}):
		through.behind, through.mask, through.whole = map[uint32]string{}, m.Mask, true
	case through.behind == nil:
		return fmt.Errorf("plugin %s takes %s whole, and plugin %s refuses i386 programs %s, which is a part of it: enable one of them",
			strings.Join(through.plugins, ", "), m.Name, strings.Join(c.plugins, ", "), c.name)
	}
	through.plugins = append(through.plugins, c.plugins...)
	slices.Sort(through.plugins)
	through.plugins = slices.Compact(through.plugins)
	through.behind[m.Value] = c.name
	if !through.whole {
		through.matches = ordered(append(through.matches, match{{arg: 0, mask: uint64(m.Mask), value: uint64(m.Value)}}))
	}
	return nil
}

// notifyWhole has all calls by a multiplexer notified that the profile allows whatever they are: the broker leaves to
// the kernel what is not refused. A rule for each would be compiled wrong, or refused, beside those that libseccomp
// makes of the profile's rules for sockets' calls, which one for all calls swallows.
func notifyWhole(captures []*capture, p *profile) error {
	rules, err := p.rules()
	if err != nil {
		return err
	}
	for _, c := range captures {
		allowed := slices.ContainsFunc(rules, func(r *rule) bool {
			return r.Action == actAllow && slices.Contains(r.Names, c.name) && len(r.Args) == 0 && r.Includes.none() && r.Excludes.none()
		})
		if c.behind != nil && allowed {
			c.whole, c.matches = true, nil
		}
	}
	return nil
}

// checkMultiplexed says which calls a runtime's libseccomp gets wrong. Of a rule for connect it makes one for
// socketcall on i386 too, with the conditions of the first, about registers that have something else there. Beside
// other rules for socketcall such a rule is compiled wrong, see checkRules.
func checkMultiplexed(captures []*capture) error {
	refused := map[string]string{} // multiplexers to the plugins that refuse something of them
	for _, c := range captures {
		if c.behind != nil && !c.whole {
			refused[c.name] = strings.Join(c.plugins, ", ")
		}
	}
	var faults []error
	for _, c := range captures {
		m, ok := wire.MultiplexerOf(c.name)
		if ok && refused[m.Name] != "" && len(c.matches) > 0 {
			faults = append(faults, fmt.Errorf("plugin %s: syscall %s: libseccomp, which runtimes use, does not get its conditions right "+
				"where calls by %s(2) are refused, by plugin %s: leave out the conditions, or let those calls continue",
				strings.Join(c.plugins, ", "), c.name, m.Name, refused[m.Name]))
		}
	}
	return errors.Join(faults...)
}

// refuseIPC says which calls LXC cannot refuse to i386 programs: it takes no rule for a call that the native
// architecture lacks, and what libseccomp makes of the other rules misses ipc(2) with a version.
func refuseIPC(captures []*capture) error {
	i := slices.IndexFunc(captures, func(c *capture) bool { return c.name == "ipc" && c.behind != nil })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("plugin %s: LXC cannot refuse i386 programs calls by ipc(2): let them continue", strings.Join(captures[i].plugins, ", "))
}
