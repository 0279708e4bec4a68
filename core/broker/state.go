package broker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/wire"
)

// State is where the broker leaves, at each step, what the next one needs to go on in its place however it ends. With
// its zero value nothing is left.
type State struct {
	Journal *journal.Journal
	Records *record.Folder
	Store   Store
}

// Store keeps descriptors for the next broker, under names (sd_notify(3), FDSTORE).
type Store interface {
	Put(name string, fd int) error
	Remove(name string) error
}

// numbers gives containers and sources numbers that no other has had since the host was started.
type numbers struct{ last atomic.Uint64 }

func (n *numbers) next() uint64 { return n.last.Add(1) }

// above has the numbers to come be higher than one that is in use.
func (n *numbers) above(used uint64) {
	for {
		last := n.last.Load()
		if last >= used || n.last.CompareAndSwap(last, used) {
			return
		}
	}
}

// Names of descriptors in the store: of a container's user namespace, and of its listeners.
const (
	namespacePrefix = "namespace"
	listenerPrefix  = "listener"
)

// NameOf makes the name of a descriptor in the store.
func NameOf(prefix string, numbers ...uint64) string {
	for _, n := range numbers {
		prefix += "." + strconv.FormatUint(n, 10)
	}
	return prefix
}

// ParseName is the reverse of NameOf, for a name with so many numbers.
func ParseName(name, prefix string, count int) ([]uint64, bool) {
	parts := strings.Split(name, ".")
	if len(parts) != count+1 || parts[0] != prefix {
		return nil, false
	}
	var found []uint64
	for _, part := range parts[1:] {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return nil, false
		}
		found = append(found, n)
	}
	return found, true
}

// IsContainers reports whether a descriptor in the store is of a container, of which a record tells.
func IsContainers(name string) bool {
	_, namespace := ParseName(name, namespacePrefix, 1)
	_, listener := ParseName(name, listenerPrefix, 2)
	return namespace || listener
}

// KeepDescriptor has the store keep a descriptor, and says in the log if it does not: the container then gets ENOSYS
// after the broker's end.
func (b *Broker) KeepDescriptor(name string, fd int) {
	if b.state.Store == nil {
		return
	}
	if err := b.state.Store.Put(name, fd); err != nil {
		b.calls.NotKept()
		b.log.Error().Err(err).Str("descriptor", name).Msg("not in the descriptor store: it does not outlive the daemon")
	}
}

// ForgetDescriptor has the store close it.
func (b *Broker) ForgetDescriptor(name string) {
	if b.state.Store == nil {
		return
	}
	if err := b.state.Store.Remove(name); err != nil {
		b.log.Error().Err(err).Str("descriptor", name).Msg("not removed from the descriptor store")
	}
}

// leaveRecord writes the container's record, and has the store keep its identity.
func (a *attachment) leaveRecord() {
	if a.broker.state.Records == nil {
		return
	}
	a.recording.Lock()
	defer a.recording.Unlock()
	if err := a.broker.state.Records.Write(a.makeRecord()); err != nil {
		a.broker.log.Error().Err(err).Str("container", a.container.ID).Msg("no record: the container does not outlive the daemon")
		return
	}
	a.broker.KeepDescriptor(NameOf(namespacePrefix, a.number), int(a.container.Namespace().Fd()))
}

// doubt notes that a peer that is not trusted has delivered a listener: see call.locate.
func (a *attachment) doubt() {
	if a.doubted.Swap(true) {
		return
	}
	if err := a.changeRecord(func(r *record.Record) { r.Doubted = true }); err != nil {
		a.broker.log.Error().Err(err).Str("container", a.container.ID).Msg("the next daemon would trust its listeners")
	}
}

func (a *attachment) makeRecord() *record.Record {
	r := &record.Record{
		Number: a.number, Attached: a.attached.Round(0), Doubted: a.doubted.Load(), Container: a.container.Save(),
		Effective: a.terms.Load().explanation(),
	}
	for _, p := range a.bound() {
		r.Plugins = append(r.Plugins, p.binding.record())
	}
	return r
}

// explanation is explain as JSON; nil if nothing is known.
func (t *terms) explanation() json.RawMessage {
	effective := t.explain()
	if effective == nil {
		return nil
	}
	text, _ := json.Marshal(effective) // made of what JSON has
	return text
}

func (b *Binding) record() record.Plugin {
	spec := b.Plugin.Spec()
	return record.Plugin{
		Name: spec.Name, Path: spec.Path, SHA256: spec.SHA256, MemoryMax: spec.Limits.Memory, Grant: spec.Grant,
		Settings: json.RawMessage(b.Settings), Deadline: b.Deadline, OnFailure: b.OnFailure.GetErrno(), Revoked: b.Revoked, Withheld: b.Withheld,
	}
}

// newStore makes the store of what a plugin keeps about the container, with what it has kept so far. The record has it
// before the plugin goes on.
func (a *attachment) newStore(plugin string, kept map[string]map[string][]byte) *wire.Store {
	s := &wire.Store{}
	if entries := kept[plugin]; len(entries) > 0 {
		s.Restore(entries)
	}
	s.OnChange = func() {
		if err := a.changeRecord(func(r *record.Record) { r.SetKept(plugin, s.Snapshot()) }); err != nil {
			a.broker.log.Error().Err(err).Str("container", a.container.ID).Str("plugin", plugin).
				Msg("what the plugin keeps about the container does not outlive the daemon")
		}
	}
	return s
}

// storeAfter is the store of a plugin that the container has used before, which was may be nil for.
func (a *attachment) storeAfter(was *boundPlugin, plugin string) *wire.Store {
	if was != nil {
		return was.kept
	}
	return a.newStore(plugin, nil)
}

// changeRecord changes what is in the container's record.
func (a *attachment) changeRecord(change func(*record.Record)) error {
	records := a.broker.state.Records
	if records == nil {
		return nil
	}
	a.recording.Lock()
	defer a.recording.Unlock()
	r, err := records.Read(a.number)
	if err != nil {
		return fmt.Errorf("changing a record: %w", err)
	}
	change(r)
	return records.Write(r)
}

// removeRecord forgets a container that has ended.
func (a *attachment) removeRecord() {
	if a.broker.state.Records == nil {
		return
	}
	a.broker.ForgetDescriptor(NameOf(namespacePrefix, a.number))
	if err := a.broker.state.Records.Remove(a.number); err != nil {
		a.broker.log.Error().Err(err).Str("container", a.container.ID).Msg("the record of an ended container")
	}
}
