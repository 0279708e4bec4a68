// Package grant is what the operator lets a plugin's process have, of what the plugin's manifest asks for.
package grant

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/wire"
)

// ErrNotGranted means that a manifest asks for more than the operator grants.
var ErrNotGranted = errors.New("the plugin asks for what is not granted")

// Powers are what a plugin's process may have beyond what every plugin has.
type Powers struct {
	Capabilities []string `json:"capabilities,omitempty"` // "CAP_MKNOD"
	Syscalls     []string `json:"syscalls,omitempty"`     // see sdk.Uses, as all that follow
	Host         []string `json:"host,omitempty"`
	Devices      []string `json:"devices,omitempty"`
	HostPIDs     bool     `json:"host_pids,omitempty"`
}

// Grant is what the operator grants. The zero Grant, and nil, grant nothing.
type Grant struct {
	Manifest bool `json:"manifest,omitempty"` // all that the manifest asks for, whatever that is
	Powers
}

// Everything grants what the manifest asks for.
func Everything() *Grant { return &Grant{Manifest: true} }

// Asked are the powers that a manifest asks for.
func Asked(m *wire.Manifest) Powers {
	uses := m.GetUses()
	return Powers{
		Capabilities: m.GetCapabilities(), Syscalls: uses.GetSyscalls(), Host: uses.GetHost(), Devices: uses.GetDevices(),
		HostPIDs: uses.GetHostPids(),
	}
}

// Missing are the powers that the manifest asks for and that are not granted. Each is compared as a whole: a path does
// not grant what is below it, where a symbolic link could lead elsewhere, nor one rule for devices a narrower one.
func (g *Grant) Missing(m *wire.Manifest) Powers {
	if g == nil {
		g = &Grant{}
	}
	asked := Asked(m)
	if g.Manifest {
		return Powers{}
	}
	return Powers{
		Capabilities: without(asked.Capabilities, g.Capabilities),
		Syscalls:     without(asked.Syscalls, g.Syscalls),
		Host:         without(asked.Host, g.Host),
		Devices:      without(canonical(asked.Devices), canonical(g.Devices)),
		HostPIDs:     asked.HostPIDs && !g.HostPIDs,
	}
}

// Check returns an error that wraps ErrNotGranted, and says what is missing, if something is.
func (g *Grant) Check(m *wire.Manifest) error {
	missing := g.Missing(m)
	if missing.None() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNotGranted, missing)
}

func without(asked, granted []string) []string {
	var missing []string
	for _, name := range asked {
		if !slices.Contains(granted, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// canonical writes each rule in one way. Those that are none stay as they are.
func canonical(rules []string) []string {
	texts := slices.Clone(rules)
	for i, text := range texts {
		if parsed, err := device.ParseRules([]string{text}); err == nil {
			texts[i] = parsed[0].String()
		}
	}
	return texts
}

// None reports whether there are none.
func (p Powers) None() bool {
	return len(p.Capabilities)+len(p.Syscalls)+len(p.Host)+len(p.Devices) == 0 && !p.HostPIDs
}

// String is for people: "capabilities CAP_SYS_ADMIN; system calls bpf, setns".
func (p Powers) String() string {
	var parts []string
	for _, list := range p.lists() {
		if len(list.names) > 0 {
			parts = append(parts, list.what+" "+strings.Join(list.names, ", "))
		}
	}
	if p.HostPIDs {
		parts = append(parts, "the host's process ids")
	}
	return strings.Join(parts, "; ")
}

// TOML is the value of the key grant in the config that grants them.
func (p Powers) TOML() string {
	var members []string
	for _, list := range p.lists() {
		if len(list.names) == 0 {
			continue
		}
		quoted, err := json.Marshal(list.names) // a string of JSON is one of TOML
		if err != nil {
			panic(err) // strings always encode
		}
		members = append(members, list.key+" = "+strings.ReplaceAll(string(quoted), `","`, `", "`))
	}
	if p.HostPIDs {
		members = append(members, "host_pids = true")
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

type list struct {
	key, what string
	names     []string
}

func (p Powers) lists() []list {
	return []list{
		{"capabilities", "capabilities", p.Capabilities},
		{"syscalls", "system calls", p.Syscalls},
		{"host", "paths of the host", p.Host},
		{"devices", "devices", p.Devices},
	}
}
