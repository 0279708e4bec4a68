package stage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/machine"
)

// machineEnv tells a test that it runs on a machine of OnMachine.
const machineEnv = "INTERCEDE_TEST_MACHINE"

// sources is the folder of Main's programs on a machine.
const sources = "/src"

// OnMachine reports whether the test runs on a machine whose first process is systemd. Where it does not, it is run
// there by then, for the time at most, with these variables of the environment.
func OnMachine(t *testing.T, atMost time.Duration, variables ...string) bool {
	t.Helper()
	if os.Getenv(machineEnv) != "" {
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "export " + machineEnv + "=1\n"
	for _, name := range variables {
		script += fmt.Sprintf("export %s='%s'\n", name, os.Getenv(name))
	}
	script += fmt.Sprintf("cd %s\nexec ./tests -test.v -test.timeout=0 -test.run='^%s$'\n", sources, t.Name())
	err = errors.Join(install(program, filepath.Join(folder, "tests")), os.WriteFile(filepath.Join(folder, "test"), []byte(script), 0o644))
	units, _ := filepath.Glob("../../deploy/systemd/*") // fails for bad patterns alone
	for _, unit := range units {
		err = errors.Join(err, install(unit, filepath.Join(folder, "units", filepath.Base(unit))))
	}
	if err != nil {
		t.Fatal(err)
	}
	machine.Systemd(t, folder, atMost)
	return false
}

// Units has the units of deploy/systemd serve, on a machine of OnMachine, with the programs as they are installed. They
// are stopped with the test.
func (t *Test) Units(config string) *Daemon {
	t.Helper()
	d := &Daemon{
		test: t, programs: "/usr/bin", plugins: "/usr/libexec/intercede", config: "/etc/intercede/config.toml", sockets: "/run/intercede",
		dir: t.TempDir(),
	}
	programs, _ := filepath.Glob(Production + "/intercede-plugin-*") // fails for bad patterns alone
	units, _ := filepath.Glob(sources + "/units/*")
	err := errors.Join(os.MkdirAll(filepath.Dir(d.config), 0o755), os.WriteFile(d.config, []byte(config), 0o644),
		install(filepath.Join(Production, "intercede"), d.Program()))
	for _, program := range programs {
		err = errors.Join(err, install(program, filepath.Join(d.plugins, filepath.Base(program))))
	}
	for _, unit := range units {
		err = errors.Join(err, install(unit, filepath.Join("/etc/systemd/system", filepath.Base(unit))))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Command("systemctl", "daemon-reload")
	t.Command("systemctl", "start", "intercede.socket", "intercede-fallback.socket", "intercede.service")
	t.Cleanup(func() {
		t.Command("systemctl", "stop", "intercede.socket", "intercede.service")
		if t.found || t.Failed() {
			t.Logf("the journal:\n%s", t.Command("journalctl", "--no-pager", "-o", "cat", "-n", "500", "-u", "intercede*"))
		}
	})
	return d
}

// Property is one of intercede.service's (systemctl(1)).
func (t *Test) Property(name string) string {
	t.Helper()
	return strings.TrimSpace(t.Command("systemctl", "show", "intercede.service", "-P", name))
}
