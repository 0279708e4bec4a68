package listener

import (
	"errors"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
)

// TestPing is answered while a thread waits, and not while none does.
func TestPing(t *testing.T) {
	p := newPoller(t)
	early, early2 := p.Ping(), p.Ping()
	select {
	case <-early:
		t.Fatal("nobody waits, and the ping is answered")
	case <-time.After(10 * time.Millisecond):
	}
	ended := make(chan error)
	go func() {
		_, _, err := p.Wait()
		ended <- err
	}()
	for i, answered := range []<-chan struct{}{early, early2, p.Ping(), p.Ping()} {
		select {
		case <-answered:
		case <-time.After(testcaller.Timeout):
			t.Fatalf("ping %d is not answered", i)
		}
	}
	p.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
