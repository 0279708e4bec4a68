// Package auditsink writes what was performed or refused with privilege, apart from the log: to a file, to journald or
// to syslog.
package auditsink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/logqueue"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/loglimit"
	"golang.org/x/sys/unix"
)

// identifier is how journald and syslog name the program.
const identifier = "intercede-audit"

// closeTime is how long is waited for what is still to be written.
const closeTime = time.Second

// Sink takes events. A nil Sink takes none.
type Sink struct {
	rate atomic.Int64 // 0: nothing is taken
	all  atomic.Pointer[loglimit.Limit]

	mu    sync.Mutex
	queue *logqueue.Queue
	out   io.Closer
	lost  uint64 // by queues before this one
}

// maxAtRate bounds the events of all containers: as many of them may have one kind at the full rate.
const maxAtRate = 100

// Open opens what the config says.
func Open(c config.Audit) (*Sink, error) {
	s := &Sink{}
	return s, s.Reopen(c)
}

// Reopen closes what is open and opens what the config says: the same file by its name too, which may be another one
// since it was rotated. After an error all stays as it was.
func (s *Sink) Reopen(c config.Audit) error {
	out, err := open(c)
	if err != nil {
		return fmt.Errorf("the audit sink: %w", err)
	}
	if out == nil {
		s.Close()
		return nil
	}
	s.replace(logqueue.New(out, describeDropped), out)
	s.all.Store(loglimit.New(maxAtRate * c.Rate))
	s.rate.Store(int64(c.Rate))
	return nil
}

// replace has events go to another queue, and writes what is left in the one before, for a moment at most.
func (s *Sink) replace(queue *logqueue.Queue, out io.Closer) {
	s.mu.Lock()
	oldQueue, oldOut := s.queue, s.out
	s.queue, s.out = queue, out
	var counted uint64
	if oldQueue != nil {
		counted = oldQueue.Dropped()
		s.lost += counted
	}
	s.mu.Unlock()
	if oldQueue == nil {
		return
	}
	oldQueue.Close(closeTime)
	oldOut.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += oldQueue.Dropped() - counted
}

// Dropped returns how many events were dropped, or could not be written, so far.
func (s *Sink) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue == nil {
		return s.lost
	}
	return s.lost + s.queue.Dropped()
}

// Rate returns how many events of a kind are taken in a second; 0: none.
func (s *Sink) Rate() int {
	if s == nil {
		return 0
	}
	return int(s.rate.Load())
}

// Put writes an event. It waits for nothing: what cannot be written in time is dropped and counted.
func (s *Sink) Put(e event.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		return // no field of an event can fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		s.queue.Write(append(line, '\n'))
	}
}

// Close writes the rest, for a moment at most.
func (s *Sink) Close() {
	if s == nil {
		return
	}
	s.rate.Store(0)
	s.replace(nil, nil)
}

// Take reports whether one event more of all containers may be written now.
func (s *Sink) Take() bool {
	all := s.all.Load()
	if all == nil {
		return false
	}
	_, ok := all.Take(1)
	return ok
}

func describeDropped(dropped int) []byte {
	line, _ := json.Marshal(event.Lost(dropped, time.Now()))
	return append(line, '\n')
}

// open opens where events go; nil: nowhere.
func open(c config.Audit) (io.WriteCloser, error) {
	switch c.Sink {
	case config.AuditFile:
		return openFile(c.Path)
	case config.AuditJournald:
		if !journal.Enabled() {
			return nil, errors.New("journald does not run here (/run/systemd/journal/socket): want another sink")
		}
		return toJournald{}, nil
	case config.AuditSyslog:
		w, err := syslog.New(syslog.LOG_INFO|syslog.LOG_AUTHPRIV, identifier)
		if err != nil {
			return nil, fmt.Errorf("syslog: %w", err)
		}
		return w, nil
	default:
		return nil, nil
	}
}

// openFile opens a file to append to, which only root may read. What is there under the name must be one.
func openFile(path string) (*os.File, error) {
	os.Mkdir(filepath.Dir(path), 0o700) // if it fails, so does opening the file, unless the folder is there
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s: want a file", path))
	}
	return file, nil
}

// toJournald writes each event as a message, whose text is the JSON object.
type toJournald struct{}

func (toJournald) Write(line []byte) (int, error) {
	err := journal.Send(string(line[:len(line)-1]), journal.PriInfo, map[string]string{"SYSLOG_IDENTIFIER": identifier})
	return len(line), err
}

func (toJournald) Close() error { return nil }
