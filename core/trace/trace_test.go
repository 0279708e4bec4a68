package trace

import (
	"testing"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
)

func record(syscall string) *audit.Record {
	return &audit.Record{
		Container: &audit.Container{ID: "3f2a77", Name: "web"}, Syscall: syscall, Notification: &notify.Notification{ID: 7},
		Reads:   []*wire.Memory{{Data: []byte("/dev/null")}},
		Outcome: audit.Outcome{Kind: audit.Continue, Reason: audit.Reason{Plugin: "mknod", Code: "device_not_listed"}},
	}
}

func TestFilter(t *testing.T) {
	for name, test := range map[string]struct {
		filter Filter
		want   bool
	}{
		"all":             {Filter{}, true},
		"ID":              {Filter{Container: "3f2a77"}, true},
		"beginning of ID": {Filter{Container: "3f"}, true},
		"name":            {Filter{Container: "web"}, true},
		"part of a name":  {Filter{Container: "we"}, false},
		"other ID":        {Filter{Container: "3f2b"}, false},
		"syscall":         {Filter{Syscall: "mknodat"}, true},
		"other syscall":   {Filter{Syscall: "mknod"}, false},
		"plugin":          {Filter{Plugin: "mknod"}, true},
		"other plugin":    {Filter{Plugin: "mount"}, false},
		"outcome":         {Filter{Outcome: audit.Continue}, true},
		"other outcome":   {Filter{Outcome: audit.Errno}, false},
		"all but one":     {Filter{"web", "mknodat", "mount", audit.Continue}, false},
		"every one":       {Filter{"web", "mknodat", "mknod", audit.Continue}, true},
	} {
		if got := test.filter.wants(record("mknodat")); got != test.want {
			t.Errorf("%s: wanted is %v", name, got)
		}
	}
}

// TestShow has one who takes nothing: others get all, and what was dropped for it is counted.
func TestShow(t *testing.T) {
	h := &Hub{}
	h.Show(record("mknodat")) // to nobody
	slow, err := h.Watch(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for range waiting + 10 {
		h.Show(record("mknodat"))
	}
	other, err := h.Watch(Filter{Syscall: "mount"})
	if err != nil {
		t.Fatal(err)
	}
	r := record("mount")
	h.Show(r)
	clear(r.Reads[0].Data) // it is the broker's again
	r.Notification.ID = 8
	if got := <-other.Calls; got.Syscall != "mount" || string(got.Reads[0].GetData()) != "/dev/null" || got.Notification.ID != 7 {
		t.Errorf("got %+v", got.Record)
	}
	if n := slow.TakeDropped(); n != 11 || slow.TakeDropped() != 0 || other.TakeDropped() != 0 {
		t.Errorf("%d were dropped", n)
	}
	if n := h.Dropped(); n != 11 {
		t.Errorf("%d were dropped for all, want 11", n)
	}
	slow.Close()
	slow.Close()
	other.Close()
	if h.Watched() {
		t.Error("somebody watches still")
	}
}

func TestNoMoreThan(t *testing.T) {
	h := &Hub{}
	var last *Watcher
	for range maxWatchers {
		var err error
		if last, err = h.Watch(Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Watch(Filter{}); err == nil {
		t.Error("one more may watch")
	}
	last.Close()
	if _, err := h.Watch(Filter{}); err != nil {
		t.Error(err)
	}
}

// TestNobody checks that a call costs nothing where nobody watches.
func TestNobody(t *testing.T) {
	h, r := &Hub{}, record("mount")
	if n := testing.AllocsPerRun(100, func() { h.Show(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
