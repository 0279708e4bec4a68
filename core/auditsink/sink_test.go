package auditsink

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/logqueue"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/loglimit"
	"golang.org/x/sys/unix"
)

// read returns the events of a file.
func read(t *testing.T, path string) (events []event.Event) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	c := config.Audit{Sink: config.AuditFile, Path: path, Rate: 3}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Rate() != 3 {
		t.Errorf("rate %d", s.Rate())
	}
	s.Put(event.Event{Schema: event.Schema, Container: "a"})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(c); err != nil {
		t.Fatal(err)
	}
	s.Put(event.Event{Schema: event.Schema, Container: "b\n"})
	s.Close()
	s.Close()
	s.Put(event.Event{Container: "late"})
	if s.Rate() != 0 {
		t.Error("a closed sink takes events")
	}
	before, after := read(t, path+".1"), read(t, path)
	if len(before) != 1 || before[0].Container != "a" || len(after) != 1 || after[0].Container != "b\n" {
		t.Errorf("%+v, %+v", before, after)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestNotAFile checks that what is at the path is written to only if it is a file, and that a failure to open it leaves
// the sink as it was.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	fifo, link, missing := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "no/such/file")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good")
	s, err := Open(config.Audit{Sink: config.AuditFile, Path: good, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, missing, dir, "/dev/null"} {
		if err := s.Reopen(config.Audit{Sink: config.AuditFile, Path: path, Rate: 1}); err == nil {
			t.Errorf("%s is taken for a file", path)
		}
	}
	s.Put(event.Event{Schema: event.Schema})
	s.Close()
	if len(read(t, good)) != 1 {
		t.Error("the sink is not as it was")
	}
}

func TestNone(t *testing.T) {
	var none *Sink
	none.Close()
	s, err := Open(config.Audit{Sink: config.AuditNone, Rate: 5})
	if err != nil || s.Rate() != 0 || none.Rate() != 0 {
		t.Errorf("%v, rate %d", err, s.Rate())
	}
	s.Put(event.Event{})
	s.Close()
}

// TestAllTogether bounds what all containers have together.
func TestAllTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(config.Audit{Sink: config.AuditFile, Path: filepath.Join(t.TempDir(), "new", "audit.log"), Rate: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		taken := 0
		for range 3 * maxAtRate {
			if s.Take() {
				taken++
			}
		}
		if taken != 2*maxAtRate {
			t.Errorf("%d events are taken in a second", taken)
		}
		time.Sleep(loglimit.Period)
		if !s.Take() {
			t.Error("none is taken in the next one")
		}
	})
}

// TestDropped checks the record of events that were dropped.
func TestDropped(t *testing.T) {
	var e event.Event
	err := json.Unmarshal(describeDropped(7), &e)
	if err != nil || e.Dropped != 7 || e.Schema != event.Schema || time.Since(e.Time) > time.Minute {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestCountDropped has nobody read a pipe: what is dropped counts on when the sink is opened anew.
func TestCountDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	s, err := Open(config.Audit{Sink: config.AuditFile, Path: path, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close() // each write fails
	s.replace(logqueue.New(w, describeDropped), w)
	s.Put(event.Event{})
	if err := s.Reopen(config.Audit{Sink: config.AuditFile, Path: path, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	if n := s.Dropped(); n != 1 {
		t.Errorf("%d were dropped, want 1", n)
	}
}
