// Package audit logs one record for each intercepted call.
package audit

import (
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/loglimit"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Kind is how a call ended.
type Kind string

const (
	Return   Kind = "return"
	Errno    Kind = "errno"
	Continue Kind = "continue"
	AddFD    Kind = "addfd"
	Gone     Kind = "gone"  // the caller was killed, or a signal interrupted its call
	Again    Kind = "again" // a signal interrupted the call, and it came again: the first notification's record has the answer
)

// IsKnown reports whether calls end so.
func (k Kind) IsKnown() bool {
	return slices.Contains([]Kind{Return, Errno, Continue, AddFD, Gone, Again}, k)
}

// Outcome is how a call ended, and by whom.
type Outcome struct {
	Plugin string // that decided; empty: none did
	Kind   Kind
	Value  int64
	Errno  unix.Errno
	Err    error // the plugin failed, and the caller got its failure verdict
	Reason Reason
}

// Reason is why a call ended so. The zero Reason: there is nothing to explain.
type Reason struct {
	Plugin string // that gave it; empty: the broker did
	Code   string // of the plugin's manifest, or the broker's
	Text   string // for people, on one line; empty: the code says it all
}

// Record is one intercepted call.
type Record struct {
	Container    *Container
	Caller       *Caller // nil: nobody asked for it while it waited
	Syscall      string
	Declared     *wire.Syscall  // by the last plugin that was asked; nil: none was
	Reads        []*wire.Memory // what it declared to read
	Notification *notify.Notification
	Outcome      Outcome
	Duration     time.Duration // from the receipt to the answer
	InPlugin     time.Duration // the part of it that plugins took
}

// maxFailures is how many failures of one kind are logged in a second: a container calls as often as it likes.
const maxFailures = 10

// Log writes the records of one container: calls at debug level, failures of plugins at warn level, where those above
// maxFailures are counted.
type Log struct {
	log zerolog.Logger

	mu       sync.Mutex
	failures map[failure]*loglimit.Limit
}

// failure is a kind of failures.
type failure struct {
	plugin string
	kind   Kind
}

// New makes a Log.
func New(log zerolog.Logger) *Log { return &Log{log: log} }

// begin begins the record of a call that ended so; nil: it is not logged.
func (l *Log) begin(o Outcome) *zerolog.Event {
	if o.Err == nil {
		return l.log.Debug()
	}
	if l.log.GetLevel() > zerolog.WarnLevel {
		return nil
	}
	suppressed, ok := l.limit(failure{o.Plugin, o.Kind}).Take(1)
	if !ok {
		return nil
	}
	event := l.log.Warn().AnErr("error", o.Err)
	if suppressed > 0 {
		event = event.Int("suppressed", suppressed)
	}
	return event
}

func (l *Log) limit(f failure) *loglimit.Limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.failures[f]
	if limit != nil {
		return limit
	}
	if l.failures == nil {
		l.failures = map[failure]*loglimit.Limit{}
	}
	limit = loglimit.New(maxFailures)
	l.failures[f] = limit
	return limit
}

// Call writes a record.
func (l *Log) Call(r Record) {
	event := l.begin(r.Outcome)
	if !event.Enabled() {
		return
	}
	n := r.Notification
	event = event.Str("container", r.Container.ID).Str("syscall", r.Syscall).Str("arch", ArchName(n.Arch)).
		Uint64("notif_id", n.ID).Uint32("tid", n.TID).Str("args", arguments(r)).
		Str("plugin", r.Outcome.Plugin).Str("outcome", string(r.Outcome.Kind)).Float64("dur_s", r.Duration.Seconds())
	switch r.Outcome.Kind {
	case Return, AddFD:
		event = event.Int64("value", r.Outcome.Value)
	case Errno:
		event = event.Str("errno", errnoName(r.Outcome.Errno))
	}
	if reason := r.Outcome.Reason; reason.Code != "" {
		event = event.Str("reason", reason.Code).Str("because", reason.Text)
	}
	event.Msg("call")
}
