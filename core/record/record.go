// Package record keeps, as files, what the daemon must know of its containers after its own death: who they are, the
// policy that they have, and what their plugins have to remember.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/internal/wire"
)

// version is of the files. Another version may add fields, which this one keeps; it raises the number when it changes
// the meaning of those that there are.
const version = 1

// ErrVersion means that a record was written by a later version, which changed what it means.
var ErrVersion = errors.New("a later version of intercede wrote it")

// Record is one container.
type Record struct {
	Version   int             `json:"version"`
	Number    uint64          `json:"number"` // which its descriptors have in their names
	Attached  time.Time       `json:"attached"`
	Doubted   bool            `json:"doubted,omitempty"` // a peer that is not trusted has delivered a listener of it
	Container container.Saved `json:"container"`
	Plugins   []Plugin        `json:"plugins"`             // in the order in which they are asked
	Effective json.RawMessage `json:"effective,omitempty"` // why: a policy.Effective
	// Filter is what the container's filter notifies at least, wire.Syscalls; nil: what Plugins take.
	Filter [][]byte `json:"filter,omitzero"`

	unknown map[string]json.RawMessage // fields of another version
}

// Plugin is one of the container's plugins, with what the policy says of it.
type Plugin struct {
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	SHA256    string            `json:"sha256,omitempty"`
	MemoryMax int64             `json:"memory_max,omitempty"` // bytes
	Grant     *grant.Grant      `json:"grant,omitempty"`      // nil: nothing
	Settings  json.RawMessage   `json:"settings"`             // every setting
	Deadline  time.Duration     `json:"deadline_ns"`
	OnFailure int32             `json:"on_failure"`     // a positive errno; 0: the call continues
	Kept      map[string][]byte `json:"kept,omitempty"` // what the plugin has to remember
	Revoked   bool              `json:"revoked,omitempty"`
	Withheld  bool              `json:"withheld,omitempty"` // not by the operator, but by a policy that the container got later
}

// Verdict is what the caller gets when the plugin fails.
func (p *Plugin) Verdict() *wire.Verdict {
	if p.OnFailure == 0 {
		return &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}}
	}
	return &wire.Verdict{Kind: &wire.Verdict_Errno{Errno: p.OnFailure}}
}

// Kept is what the plugins have to remember, by their names.
func (r *Record) Kept() map[string]map[string][]byte {
	kept := map[string]map[string][]byte{}
	for _, p := range r.Plugins {
		kept[p.Name] = p.Kept
	}
	return kept
}

// SetKept replaces what a plugin has to remember.
func (r *Record) SetKept(plugin string, kept map[string][]byte) {
	for i := range r.Plugins {
		if r.Plugins[i].Name == plugin {
			r.Plugins[i].Kept = kept
		}
	}
}

// Revoke notes that a plugin was taken from the container.
func (r *Record) Revoke(plugin string) {
	for i := range r.Plugins {
		if r.Plugins[i].Name == plugin {
			r.Plugins[i].Revoked, r.Plugins[i].Withheld = true, false
		}
	}
}

// Folder is where the records are.
type Folder struct{ path string }

// Open makes the folder, if it is not there, and reads its records. What cannot be read is left where it is; the errors
// say what that is.
func Open(path string) (*Folder, []*Record, []error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, nil, []error{fmt.Errorf("the folder of the containers' records: %w", err)}
	}
	files, err := filepath.Glob(filepath.Join(path, "*"+suffix))
	if err != nil {
		return nil, nil, []error{err}
	}
	var records []*Record
	var errs []error
	for _, file := range files {
		r, err := read(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("the record %q: %w", file, err))
			continue
		}
		records = append(records, r)
	}
	return &Folder{path}, records, errs
}

const suffix = ".json"

func read(file string) (*Record, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	if r.Version > version {
		return nil, fmt.Errorf("%w: version %d, want %d at most", ErrVersion, r.Version, version)
	}
	if name := strconv.FormatUint(r.Number, 10) + suffix; name != filepath.Base(file) {
		return nil, fmt.Errorf("it is of container number %d: want the name %s", r.Number, name)
	}
	return r, nil
}

func (f *Folder) file(number uint64) string {
	return filepath.Join(f.path, strconv.FormatUint(number, 10)+suffix)
}

// Read reads the record of a container.
func (f *Folder) Read(number uint64) (*Record, error) {
	r, err := read(f.file(number))
	if err != nil {
		return nil, fmt.Errorf("the record %q: %w", f.file(number), err)
	}
	return r, nil
}

// Write writes a record, in the place of an older one of the same number: whoever reads it finds one or the other. It
// must not be called twice at once for one number.
func (f *Folder) Write(r *Record) error {
	r.Version = version
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("the record of container %q: %w", r.Container.Claim.ID, err)
	}
	if err := replace(f.file(r.Number), text); err != nil {
		return fmt.Errorf("the record of container %q: %w", r.Container.Claim.ID, err)
	}
	return nil
}

// replace writes a file and gives it its name. Nothing is written to a disk for it: the records are of no use after the
// host has started again. What a broker that ended has left under the other name is overwritten.
func replace(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Remove removes the record of a container that has ended. A second Remove does nothing.
func (f *Folder) Remove(number uint64) error {
	if err := os.Remove(f.file(number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a record: %w", err)
	}
	return nil
}

// fields is Record without its methods.
type fields Record

// UnmarshalJSON keeps the fields that it does not know.
func (r *Record) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, (*fields)(r)); err != nil {
		return err
	}
	r.unknown = nil
	if err := json.Unmarshal(text, &r.unknown); err != nil {
		return err
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[fields]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(r.unknown, name)
	}
	return nil
}

// MarshalJSON adds the fields that UnmarshalJSON did not know.
func (r *Record) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal((*fields)(r))
	if err != nil || len(r.unknown) == 0 {
		return text, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, r.unknown)
	return json.Marshal(all)
}
