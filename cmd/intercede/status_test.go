package main

import (
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/launcher"
)

func TestPrintStatus(t *testing.T) {
	status := &control.Status{
		Plugins: []launcher.Status{
			{Name: "mknod", State: launcher.BackingOff, NextStart: time.Now().Add(20 * time.Second)},
			{Name: "mount", State: launcher.Running, Isolated: 2},
		},
		Containers: []broker.ContainerStatus{{ID: "quiet"}},
	}
	var out strings.Builder
	if err := printStatus(&out, status); err != nil {
		t.Fatal(err)
	}
	wantText(t, out.String(), "backing off for 20s", "running, and 2 for one container each")
	if strings.Contains(out.String(), "QUARANTINED") {
		t.Errorf("nobody is quarantined:\n%s", &out)
	}
	since := time.Now().Add(-10 * time.Second)
	status.Containers = append(status.Containers, broker.ContainerStatus{ID: "busy", Quarantines: []broker.Quarantine{
		{Reason: "its memory hangs", Since: since},
		{Plugin: "mknod", Reason: "it ended three", Since: since, Until: time.Now().Add(time.Minute)},
	}})
	out.Reset()
	if err := printStatus(&out, status); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	wantText(t, text, "QUARANTINED PLUGIN SINCE ENDS REASON busy all 10s when that is over its memory hangs "+
		"busy mknod 10s in 1m0s it ended three")
}
