package record

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/container"
)

func open(t *testing.T, path string) (*Folder, []*Record) {
	t.Helper()
	f, records, errs := Open(path)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return f, records
}

func example() *Record {
	return &Record{
		Number: 7, Attached: time.Unix(5, 0).UTC(), Effective: json.RawMessage(`{"rules":[]}`),
		Container: container.Saved{Claim: container.Claim{ID: "box", Runtime: "oci"}, InitPID: 4},
		Plugins: []Plugin{{
			Name: "mknod", Path: "/p", Settings: json.RawMessage(`{}`), Deadline: time.Second, OnFailure: 38,
			Kept: map[string][]byte{"cover": {0, 255}},
		}},
	}
}

func TestWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "containers")
	f, records := open(t, path)
	if len(records) != 0 {
		t.Fatalf("%d records in a new folder", len(records))
	}
	want := example()
	for range 2 {
		if err := f.Write(want); err != nil {
			t.Fatal(err)
		}
	}
	f, records = open(t, path)
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
	records[0].unknown = nil
	if !reflect.DeepEqual(records[0], want) {
		t.Errorf("read %+v, want %+v", records[0], want)
	}
	for range 2 {
		if err := f.Remove(7); err != nil {
			t.Error(err)
		}
	}
	if _, records = open(t, path); len(records) != 0 {
		t.Errorf("%d records after Remove", len(records))
	}
}

// Fields that another version has added outlive this one, and those of this one count.
func TestUnknownFields(t *testing.T) {
	path := t.TempDir()
	text := `{"version":1,"number":3,"doubted":false,"later":{"a":1},"container":{"claim":{"id":"x"}}}`
	if err := os.WriteFile(filepath.Join(path, "3.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, records := open(t, path)
	records[0].Doubted = true
	if err := f.Write(records[0]); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(filepath.Join(path, "3.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"later":{"a":1}`, `"doubted":true`, `"id":"x"`} {
		if !strings.Contains(string(written), want) {
			t.Errorf("%s is missing in %s", want, written)
		}
	}
}

// What cannot be read keeps nothing else from being read.
func TestBadRecords(t *testing.T) {
	path := t.TempDir()
	f, _ := open(t, path)
	if err := f.Write(example()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"1.json": "{", "2.json": `{"number":1}`, "3.json": `{"number":3,"version":2}`, "4.json.new": "x",
	} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, records, errs := Open(path)
	if len(records) != 1 || len(errs) != 3 {
		t.Errorf("%d records and %v, want 1 and 3 errors", len(records), errs)
	}
	if !errors.Is(errors.Join(errs...), ErrVersion) {
		t.Errorf("%v, want ErrVersion among them", errs)
	}
}
