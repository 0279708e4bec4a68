package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/internal/acting"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
)

// OpenLanes accepts lanes if the broker gave a socket for them.
func (s *server) OpenLanes(context.Context, *wire.OpenLanesRequest) (*wire.OpenLanesResponse, error) {
	return &wire.OpenLanesResponse{Accepted: os.Getenv(wire.LanesEnv) != ""}, nil
}

// receiveLanes serves the socket that the broker gave for lanes, and for the descriptors of streams.
func (s *server) receiveLanes() error {
	text, ok := os.LookupEnv(wire.LanesEnv)
	if !ok {
		s.added.use(nil)
		return nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s=%q: want the number of a descriptor", wire.LanesEnv, text)
	}
	unix.CloseOnExec(fd)
	go s.ServeLanes(lane.New(fd))
	return nil
}

// ServeLanes serves the lanes that the broker opens on the socket, until it has closed that, and them.
func (s *server) ServeLanes(control *lane.End) {
	l := &lanes{server: s, cancels: map[uint64]func(){}}
	s.added.use(control)
	defer s.added.close()
	l.accept(control)
	l.open.Wait()
}

// lanes serves the notifications that come over lanes.
type lanes struct {
	server *server
	open   sync.WaitGroup

	mu      sync.Mutex
	cancels map[uint64]func() // of the lanes, by their numbers
}

// accept takes new lanes until the broker closes the socket.
func (l *lanes) accept(control *lane.End) {
	defer control.Close()
	for {
		var message wire.LaneControl
		fds, err := control.Receive(&message)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				slog.Error("no more lanes", "error", err)
			}
			return
		}
		switch kind := message.GetControl().(type) {
		case *wire.LaneControl_Open:
			if len(fds) > 0 {
				l.begin(kind.Open, lane.New(fds[0]))
				fds = fds[1:]
			}
			linux.CloseAll(fds...)
		case *wire.LaneControl_Descriptors:
			l.server.brought.put(kind.Descriptors, fds)
		case *wire.LaneControl_Cancel:
			linux.CloseAll(fds...)
			l.cancel(kind.Cancel)
		default:
			linux.CloseAll(fds...)
		}
	}
}

// begin begins to serve a lane. It is known from then on: its cancellation may come before the thread has its
// notification.
func (l *lanes) begin(open *wire.OpenLane, end *lane.End) {
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	l.cancels[open.GetNumber()] = cancel
	l.mu.Unlock()
	l.open.Add(1)
	target.GoOnThread(func() {
		defer l.open.Done()
		defer l.forget(open.GetNumber(), cancel)
		l.serve(ctx, int(open.GetCpu()), end)
	})
}

func (l *lanes) forget(number uint64, cancel func()) {
	cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cancels, number)
}

// serve handles a lane's notifications, one after the other, on a thread of its own, which ends with the lane. The
// context ends when the lane is cancelled, which is then not used any more.
func (l *lanes) serve(ctx context.Context, cpu int, end *lane.End) {
	defer end.Close()
	var processor unix.CPUSet
	processor.Set(cpu)
	unix.SchedSetaffinity(0, &processor) // where it is not allowed, the thread is served elsewhere
	thread, err := acting.NewThread()
	if err != nil {
		slog.Error("no lane", "error", err)
		return
	}
	var d dialogue
	for !thread.Spoiled() {
		message := d.blank()
		fds, err := end.Receive(message)
		if err != nil {
			return
		}
		n := message.GetNotification()
		if n == nil || len(n.GetArgs()) == 0 { // an empty message leaves the blank notification as it is
			linux.CloseAll(fds...)
			return
		}
		t := transport{asker: laneAsker{end, n.GetId()}, descriptors: fds, thread: thread}
		if err := l.handle(withDeadline(ctx, n), end, n, &d, t); err != nil {
			return
		}
	}
}

// timedContext is a lane's context for one notification. The broker cancels the lane at the deadline, so that no timer
// is needed here.
type timedContext struct {
	context.Context
	deadline time.Time
}

func (c timedContext) Deadline() (time.Time, bool) { return c.deadline, true }

// withDeadline tells the handler how long it has.
func withDeadline(ctx context.Context, n *wire.Notification) context.Context {
	if n.GetDeadlineNs() == 0 {
		return ctx
	}
	return timedContext{ctx, linux.FromMonotonic(n.GetDeadlineNs())}
}

// handle handles one notification. An error means that the lane is of no more use.
func (l *lanes) handle(ctx context.Context, end *lane.End, n *wire.Notification, d *dialogue, t transport) error {
	response, err := l.server.answer(ctx, n, t)
	if err != nil {
		return sendFailure(end, n.GetId(), err)
	}
	defer response.close()
	return d.send(end, n.GetId(), response)
}

// dialogue has a lane's messages, which are used again for the next notification.
type dialogue struct {
	question     wire.BrokerMessage
	asked        wire.BrokerMessage_Notification
	notification wire.Notification
	answer       wire.PluginMessage
	answered     wire.PluginMessage_Response
	response     wire.Response
}

// blank is an empty message for the broker's next one, a notification.
func (d *dialogue) blank() *wire.BrokerMessage {
	d.notification.Reset()
	d.question.Reset()
	d.asked.Notification, d.question.Message = &d.notification, &d.asked
	return &d.question
}

// send answers the notification of this id.
func (d *dialogue) send(end *lane.End, id uint64, response Response) error {
	err := response.put(&d.response)
	var fds []int
	if err == nil && response.kind == kindAddFD {
		fds = []int{int(response.file.Fd())}
		err = checkOpen(fds[0])
	}
	if err != nil {
		return sendFailure(end, id, err)
	}
	d.answered.Response = &d.response
	d.answer.Id, d.answer.Message = id, &d.answered
	if err := end.Send(&d.answer, fds...); err != nil {
		return fmt.Errorf("sending the response: %w", err)
	}
	return nil
}

func sendFailure(end *lane.End, id uint64, err error) error {
	failure := &wire.Failure{Gone: errors.Is(err, ErrGone), Text: status.Convert(err).Message()}
	return end.Send(&wire.PluginMessage{Id: id, Message: &wire.PluginMessage_Failure{Failure: failure}})
}

func (l *lanes) cancel(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel := l.cancels[number]; cancel != nil {
		cancel()
	}
}
