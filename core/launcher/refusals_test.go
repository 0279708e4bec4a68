package launcher_test

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// TestRefusals has a plugin make calls that it does not declare: each is counted, and logged once.
func TestRefusals(t *testing.T) {
	log := &lockedBuffer{}
	p := startHostile(t, "hostile", sandbox.Limits{}, zerolog.New(log))
	if s := p.Status(); s.Refused != nil {
		t.Errorf("its start alone: %v", s.Refused)
	}
	attack(t, p, "reach a network")
	attack(t, p, "reach a network")
	if said := attack(t, p, "call what is refused", "20", "20"); !strings.Contains(said, "keyctl: operation not permitted") {
		t.Error(said)
	}
	eventually(t, "all are counted", func() bool {
		s := p.Status()
		return len(s.Refused) == 2 && s.Refused["socket"] == 12 && s.Refused["keyctl"] == 401
	})
	for _, name := range []string{"socket", "keyctl"} {
		if n := strings.Count(log.String(), `"syscall":"`+name+`"`); n != 1 {
			t.Errorf("%s was logged %d times:\n%s", name, n, log)
		}
	}
	if !strings.Contains(log.String(), `"call":"keyctl(0x1, 0x2, 0x3, 0x0, 0x0, 0x0)"`) {
		t.Errorf("no arguments:\n%s", log)
	}
}

// TestFamilies has a plugin call what it declares, and no plugin of the project does.
func TestFamilies(t *testing.T) {
	p := startHostile(t, "hostile_families", sandbox.Limits{}, zerolog.Nop())
	attack(t, p, "call what is declared")
	attack(t, p, "call what is refused", "1", "1")
	if s := p.Status(); s.Refused != nil {
		t.Errorf("refused: %v", s.Refused)
	}
}

// TestRefusedWhileKilled kills a plugin whose threads make calls that are refused.
func TestRefusedWhileKilled(t *testing.T) {
	p := startHostile(t, "hostile", sandbox.Limits{}, zerolog.Nop())
	session := newSession(p, "c", `{"attack":"call what is refused","on":["20","1000000"]}`)
	done := make(chan error)
	go func() { done <- session.Attach(t.Context()) }()
	eventually(t, "calls are refused", func() bool { return p.Status().Refused["keyctl"] > 20 })
	kill(t, p.Status().PID, unix.SIGKILL)
	<-done
	eventually(t, "it runs again", func() bool { return p.Status().State == launcher.Running })
	if said := attack(t, p, "call what is refused", "1", "1"); !strings.Contains(said, "operation not permitted") {
		t.Error(said)
	}
}
