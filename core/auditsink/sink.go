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
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/logqueue"
	"github.com/intercede/intercede/core/policy/config"
	"golang.org/x/sys/unix"
)

// identifier is how journald and syslog name the program.
const identifier = "intercede-audit"

// closeTime is how long is waited for what is still to be written.
const closeTime = time.Second

// Sink takes events. A nil Sink takes none.
type Sink struct {
	rate atomic.Int64 // 0: nothing is taken

	mu    sync.Mutex
	queue *logqueue.Queue
	out   io.Closer
}

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
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if out == nil {
		return nil
	}
	s.queue, s.out = logqueue.New(out, describeDropped), out
	s.rate.Store(int64(c.Rate))
	return nil
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
	s.mu.Lock()
	queue, out := s.queue, s.out
	s.queue, s.out = nil, nil
	s.mu.Unlock()
	if queue != nil {
		queue.Close(closeTime)
		out.Close()
	}
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
