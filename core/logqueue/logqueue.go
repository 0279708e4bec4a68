// Package logqueue is a bounded queue between a log and its writer, for a writer that may block or fail: a pipe whose
// reader is slow, or gone.
//
// zerolog's diode is not used. Its waiter can miss the wake-up for a record, which then waits for the next one; it
// writes to standard error itself when writers collide; its Close waits for the writer without a limit.
package logqueue

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// size is the number of records that wait for the writer.
const size = 1024

// Queue is an io.Writer that does not wait for the writer that it hands the records to. What that cannot take is
// dropped and counted. Once the queue was full it takes nothing until it is empty: so a report stands for many records.
type Queue struct {
	out      io.Writer
	describe func(dropped int) []byte
	records  chan []byte
	written  chan struct{} // closed after the last record

	mu      sync.Mutex
	dropped int // since the queue was full
	closed  bool

	lost atomic.Uint64 // see Dropped
}

// New hands records to out, from a goroutine of its own. describe makes a record of the number of those that were
// dropped; it is written as soon as out takes records again.
func New(out io.Writer, describe func(dropped int) []byte) *Queue {
	q := &Queue{out: out, describe: describe, records: make(chan []byte, size), written: make(chan struct{})}
	go q.drain()
	return q
}

// Write queues a copy of the record, or drops it. It does not fail.
func (q *Queue) Write(record []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return len(record), nil
	}
	if q.dropped == 0 {
		select {
		case q.records <- bytes.Clone(record):
			return len(record), nil
		default:
		}
	}
	q.dropped++
	q.lost.Add(1)
	return len(record), nil
}

// Dropped returns how many records were dropped, or could not be written, so far.
func (q *Queue) Dropped() uint64 { return q.lost.Load() }

// Close waits until all is written, but not longer than the limit. What is written to the queue afterwards is dropped.
func (q *Queue) Close(limit time.Duration) {
	q.mu.Lock()
	closed := q.closed
	q.closed = true
	q.mu.Unlock()
	if !closed {
		close(q.records)
	}
	select {
	case <-q.written:
	case <-time.After(limit):
	}
}

func (q *Queue) drain() {
	defer close(q.written)
	unreported := 0
	for record := range q.records {
		if _, err := q.out.Write(record); err != nil {
			unreported++
			q.lost.Add(1)
		}
		if len(q.records) == 0 {
			unreported = q.report(unreported + q.takeDropped())
		}
	}
}

// takeDropped lets the queue take records again.
func (q *Queue) takeDropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped := q.dropped
	q.dropped = 0
	return dropped
}

// report gives the number of dropped records that is still to be reported.
func (q *Queue) report(dropped int) int {
	if dropped == 0 {
		return 0
	}
	if _, err := q.out.Write(q.describe(dropped)); err != nil {
		return dropped
	}
	return 0
}
