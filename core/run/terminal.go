package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openTerminal makes a terminal of the container's own /dev/pts the controlling one, puts it over /dev/console and
// in place of the stdio files that were terminals, and sends both of its ends to the caller.
func openTerminal(wanted *request, owner uint32) error {
	master, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make the container's terminal: %w", err)
	}
	defer unix.Close(master)
	path, err := unlockTerminal(master)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &wanted.Window); err != nil {
		return fmt.Errorf("set the size of the container's terminal: %w", err)
	}
	slave, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's terminal: %w", err)
	}
	defer unix.Close(slave)
	if err := unix.Fchown(slave, int(owner), -1); err != nil {
		return fmt.Errorf("give the terminal to the container's user: %w", err)
	}
	if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("make the container's terminal the controlling one: %w", err)
	}
	for fd, replaced := range wanted.Terminal {
		if !replaced {
			continue
		}
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return fmt.Errorf("connect the container's terminal: %w", err)
		}
	}
	if err := bindConsole(path); err != nil {
		return err
	}
	return sendMessage(initSocket, report{Terminal: true}, master, slave)
}

func unlockTerminal(master int) (path string, err error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return "", fmt.Errorf("unlock the container's terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return "", fmt.Errorf("find the container's terminal: %w", err)
	}
	return fmt.Sprintf("/dev/pts/%d", number), nil
}

func bindConsole(path string) error {
	console, err := os.OpenFile("/dev/console", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make /dev/console: %w", err)
	}
	console.Close()
	if err := unix.Mount(path, "/dev/console", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /dev/console: %w", err)
	}
	return nil
}

// stdio are the caller's stdin, stdout and stderr.
type stdio [3]*os.File

// terminals says which of them are terminals.
func (s stdio) terminals() (are [3]bool) {
	for i, file := range s {
		are[i] = file != nil && term.IsTerminal(int(file.Fd()))
	}
	return are
}

// inherited are the files that the container gets: never a terminal of the host, into whose input a program could
// push (TIOCSTI, ioctl_tty(2)).
func (s stdio) inherited(null *os.File) stdio {
	for i, terminal := range s.terminals() {
		if terminal || s[i] == nil {
			s[i] = null
		}
	}
	return s
}

// output is where the container's terminal is shown: the first terminal of stdout, stderr and stdin.
func (s stdio) output() *os.File {
	are := s.terminals()
	for _, i := range []int{1, 2, 0} {
		if are[i] {
			return s[i]
		}
	}
	return nil
}

// terminal connects the caller's terminal to the container's.
type terminal struct {
	master *os.File
	// slave is kept open so that the master can be read on when no process of the container has the terminal open for a
	// while.
	slave  *os.File
	output *os.File
	input  *os.File // nil when the caller's stdin is not a terminal
	state  *term.State
	// stopInput is closed to end the copying of input, wherever it waits.
	stopInput *os.File
	resized   chan os.Signal
	shown     chan struct{}
	fed       chan struct{}
	still     chan struct{} // closed when resize has ended
	once      sync.Once
	err       error
}

func windowOf(file *os.File) unix.Winsize {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return unix.Winsize{}
	}
	return *size
}

// connect takes the two ends over. It puts the caller's terminal into raw mode until [terminal.disconnect].
func connect(master, slave int, files stdio) (*terminal, error) {
	if err := unix.SetNonblock(master, true); err != nil {
		linux.CloseAll(master, slave)
		return nil, fmt.Errorf("connect the terminal: %w", err)
	}
	t := &terminal{
		slave:   os.NewFile(uintptr(slave), "terminal"),
		master:  os.NewFile(uintptr(master), "terminal"),
		output:  files.output(),
		resized: make(chan os.Signal, 1),
		shown:   make(chan struct{}),
		fed:     make(chan struct{}),
		still:   make(chan struct{}),
	}
	if files.terminals()[0] {
		t.input = files[0]
	}
	stopped, stop, err := os.Pipe()
	if err == nil {
		t.stopInput = stop
		err = t.makeRaw()
	}
	if err != nil {
		closeFiles(t.master, t.slave, stopped, stop)
		return nil, fmt.Errorf("connect the terminal: %w", err)
	}
	go t.show()
	go t.feed(stopped)
	signal.Notify(t.resized, unix.SIGWINCH)
	go t.resize()
	t.resized <- unix.SIGWINCH
	return t, nil
}

func closeFiles(files ...*os.File) {
	for _, file := range files {
		if file != nil {
			file.Close()
		}
	}
}

func (t *terminal) makeRaw() (err error) {
	if t.input != nil {
		t.state, err = term.MakeRaw(int(t.input.Fd()))
	}
	return err
}

// show copies until the slave is closed everywhere, which reads as EIO (pty(7)). When the caller's terminal is gone,
// the container's output is discarded, lest the container wait for ever.
func (t *terminal) show() {
	defer close(t.shown)
	io.Copy(t.output, t.master)
	io.Copy(io.Discard, t.master)
}

// feed copies the caller's input. It reads only when there is some, so that nothing typed after the container's end is
// taken away from whoever reads the terminal next.
func (t *terminal) feed(stopped *os.File) {
	defer close(t.fed)
	defer stopped.Close()
	if t.input == nil {
		return
	}
	input := int(t.input.Fd())
	ready := []unix.PollFd{{Fd: int32(input), Events: unix.POLLIN}, {Fd: int32(stopped.Fd())}}
	buffer := make([]byte, 4096)
	for {
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if ready[1].Revents != 0 {
			return
		}
		if ready[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(input, buffer)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if _, err := t.master.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (t *terminal) resize() {
	defer close(t.still)
	for range t.resized {
		size := windowOf(t.output)
		unix.IoctlSetWinsize(int(t.slave.Fd()), unix.TIOCSWINSZ, &size)
	}
}

// disconnect shows the rest of the output and gives the caller's terminal its old state. The container has ended.
func (t *terminal) disconnect() error {
	t.once.Do(func() {
		signal.Stop(t.resized)
		close(t.resized)
		<-t.still
		t.slave.Close()
		<-t.shown
		t.stopInput.Close()
		t.master.SetDeadline(pastDeadline)
		<-t.fed
		t.master.Close()
		if t.state == nil {
			return
		}
		if err := term.Restore(int(t.input.Fd()), t.state); err != nil {
			t.err = fmt.Errorf("restore the terminal: %w", err)
		}
	})
	return t.err
}
