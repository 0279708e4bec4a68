package broker

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// A plugin that refuses the settings that annotations changed gets those without them.
func TestFallbackSettings(t *testing.T) {
	settings := func(refuse, gate string) string {
		text, _ := json.Marshal(map[string]string{"gate": gate, "refuse": refuse, "attach": ""})
		return string(text)
	}
	for _, test := range []struct {
		name     string
		fallback string // what it refuses with these
		want     int64
	}{
		{"taken", "", 42},
		{"refused too", "not that either", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, options{})
			b.generation.Assign = func(*container.Container) Assignment {
				binding := b.generation.Bindings[0]
				binding.Settings, binding.Fallback = settings("not these", b.gate.name), settings(test.fallback, b.gate.name)
				return Assignment{Bindings: []Binding{binding}}
			}
			c := b.attach(t)
			want(t, ask(t, c, testplugin.Return, 42), test.want, 0) // the failure verdict is to continue
			b.log.await(t, 1, "warn", "not these", "they are ignored")
		})
	}
}

// Each container has the plugins that it is assigned, and what none of them takes goes on in the kernel.
func TestAssignPlugins(t *testing.T) {
	b := newBench(t, options{plugins: []string{"trial", "errno_trial"}})
	b.generation.Assign = func(c *container.Container) Assignment {
		switch c.ID {
		case "trial":
			return Assignment{Bindings: b.generation.Bindings[:1]}
		case "both":
			return Assignment{Bindings: b.generation.Bindings}
		}
		return Assignment{}
	}
	for id, answers := range map[string]int64{"trial": 1, "both": 2, "none": 0} {
		t.Run(id, func(t *testing.T) {
			c := testcaller.Start(t, 0)
			b.attachCaller(t, c, id)
			if answers > 0 {
				want(t, ask(t, c, testplugin.Return, 42), 42, 0)
			} else {
				want(t, ask(t, c, testplugin.Return, 42), 0, 0)
				want(t, c.Call(t, unix.SYS_CHDIR, 0), -1, unix.EFAULT)
			}
			for _, s := range b.Status() {
				if s.ID == id && len(s.Plugins) != int(answers) {
					t.Errorf("status has plugins %s", fmt.Sprint(s.Plugins))
				}
			}
		})
	}
}
