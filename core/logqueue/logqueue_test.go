package logqueue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = 30 * time.Second

// reader takes records when the test lets it, or refuses them.
type reader struct {
	gate chan error

	mu    sync.Mutex
	lines []string
}

func (r *reader) Write(p []byte) (int, error) {
	if err := <-r.gate; err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(p))
	return len(p), nil
}

func newQueue() (*Queue, *reader) {
	r := &reader{gate: make(chan error)}
	return New(r, func(dropped int) []byte { return fmt.Appendf(nil, "dropped %d", dropped) }), r
}

// take lets the writer take records until the queue is closed.
func (r *reader) take(q *Queue) {
	go func() {
		for {
			select {
			case r.gate <- nil:
			case <-q.written:
				return
			}
		}
	}()
}

func write(q *Queue, from, to int) {
	for i := from; i < to; i++ {
		record := []byte(fmt.Sprint(i))
		q.Write(record)
		clear(record) // it is the logger's again
	}
}

func records(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func TestCloseWritesAll(t *testing.T) {
	q, r := newQueue()
	write(q, 0, size)
	r.take(q)
	q.Close(patience)
	q.Close(patience)
	q.Write([]byte("late"))
	if want := records(0, size); !slices.Equal(r.lines, want) {
		t.Errorf("%d records: %v", len(r.lines), r.lines)
	}
}

// A writer that takes nothing keeps nobody waiting; what does not fit is dropped, in one gap, and counted.
func TestBlockedWriter(t *testing.T) {
	q, r := newQueue()
	write(q, 0, 3*size)
	r.take(q)
	q.Close(patience)
	kept := len(r.lines) - 1
	if kept < size || kept > size+1 { // one more if the writer had one already
		t.Fatalf("%d records were kept", kept)
	}
	if want := append(records(0, kept), fmt.Sprintf("dropped %d", 3*size-kept)); !slices.Equal(r.lines, want) {
		t.Errorf("%v", r.lines)
	}
	if n := q.Dropped(); n != uint64(3*size-kept) {
		t.Errorf("%d were dropped, want %d", n, 3*size-kept)
	}
}

// A writer that fails loses records; the next that it takes is followed by their number.
func TestFailingWriter(t *testing.T) {
	q, r := newQueue()
	for i := range 3 {
		write(q, i, i+1)
		r.gate <- errors.New("broken pipe") // the record
		r.gate <- errors.New("broken pipe") // the report
	}
	write(q, 3, 4)
	r.take(q)
	q.Close(patience)
	if want := []string{"3", "dropped 3"}; !slices.Equal(r.lines, want) || q.Dropped() != 3 {
		t.Errorf("%v, want %v; %d were dropped, want 3", r.lines, want, q.Dropped())
	}
}

// A writer that fails while the queue is full does not keep it from taking records afterwards.
func TestFailingAndFull(t *testing.T) {
	q, r := newQueue()
	write(q, 0, 2*size)
	queued := 2*size - q.countDropped()
	for range queued + 1 { // the report, too
		r.gate <- errors.New("broken pipe")
	}
	write(q, 2*size, 2*size+1)
	r.take(q)
	q.Close(patience)
	if want := []string{fmt.Sprint(2 * size), fmt.Sprintf("dropped %d", 2*size)}; !slices.Equal(r.lines, want) {
		t.Errorf("%v, want %v", r.lines, want)
	}
}

func (q *Queue) countDropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func TestCloseGivesUp(t *testing.T) {
	q, r := newQueue()
	write(q, 0, 10)
	q.Close(time.Millisecond)
	r.take(q)
}

// Every record is written or counted, whatever the moment.
func TestManyWriters(t *testing.T) {
	const writers, each = 8, 5000
	q, r := newQueue()
	r.take(q)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() { write(q, 0, each) })
	}
	all.Wait()
	q.Close(patience)
	kept, dropped := 0, 0
	for _, line := range r.lines {
		if number, found := strings.CutPrefix(line, "dropped "); found {
			n := 0
			fmt.Sscan(number, &n)
			dropped += n
		} else {
			kept++
		}
	}
	if kept+dropped != writers*each {
		t.Errorf("%d kept and %d dropped of %d", kept, dropped, writers*each)
	}
}
