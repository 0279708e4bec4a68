package grant

import (
	"errors"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

// asks is a manifest that asks for one of everything.
func asks() *wire.Manifest {
	return &wire.Manifest{
		Capabilities: []string{"CAP_SYS_ADMIN", "CAP_BPF"},
		Uses: &wire.Uses{
			Syscalls: []string{"bpf"}, Host: []string{"/sys/fs/cgroup"}, Devices: []string{"c *:* mr"}, HostPids: true,
		},
	}
}

func TestCheck(t *testing.T) {
	all := func() *Grant {
		return &Grant{Powers: Powers{
			Capabilities: []string{"CAP_BPF", "CAP_SYS_ADMIN", "CAP_CHOWN"}, Syscalls: []string{"bpf", "keyctl"},
			Host: []string{"/sys/fs/cgroup"}, Devices: []string{"b *:* m", "c *:* rm"}, HostPIDs: true,
		}}
	}
	for _, granted := range []*Grant{all(), Everything()} {
		if err := granted.Check(asks()); err != nil {
			t.Errorf("%+v: %v", granted, err)
		}
	}
	for _, granted := range []*Grant{nil, {}} {
		if err := granted.Check(&wire.Manifest{}); err != nil {
			t.Errorf("%+v does not allow a plugin that asks for nothing: %v", granted, err)
		}
		if err := granted.Check(asks()); !errors.Is(err, ErrNotGranted) {
			t.Errorf("%+v: %v", granted, err)
		}
	}
	for missing, take := range map[string]func(*Grant){
		"capabilities CAP_SYS_ADMIN":       func(g *Grant) { g.Capabilities = g.Capabilities[:1] },
		"system calls bpf":                 func(g *Grant) { g.Syscalls = []string{"bpf2"} },
		"paths of the host /sys/fs/cgroup": func(g *Grant) { g.Host = []string{"/sys", "/sys/fs/cgroup/a"} }, // neither above nor below
		"devices c *:* rm":                 func(g *Grant) { g.Devices = []string{"c *:* rwm", "c *:* r", "c *:* m"} },
		"the host's process ids":           func(g *Grant) { g.HostPIDs = false },
	} {
		granted := all()
		take(granted)
		err := granted.Check(asks())
		if !errors.Is(err, ErrNotGranted) || !strings.HasSuffix(err.Error(), ": "+missing) {
			t.Errorf("%v, want that %s is missing", err, missing)
		}
	}
}

// TestTOML reads what is to be written into a config.
func TestTOML(t *testing.T) {
	manifest := asks()
	manifest.Uses.Host = append(manifest.Uses.Host, `/a "b","c" <\`)
	var read struct {
		Grant struct {
			Capabilities, Syscalls, Host, Devices []string
			HostPIDs                              bool `toml:"host_pids"`
		}
	}
	text := "grant = " + Asked(manifest).TOML()
	if _, err := toml.Decode(text, &read); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	granted := &Grant{Powers: Powers(read.Grant)}
	if err := granted.Check(manifest); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}
