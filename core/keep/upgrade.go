package keep

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// stateVariable has the number of a descriptor, in a keeper that another one has become or has left behind: a memfd
// with its state in JSON.
const stateVariable = "INTERCEDE_KEEP_STATE"

// StateVersion is that of the state that a keeper hands on. A new program is asked whether it knows it.
const StateVersion = 1

// state is what a keeper hands on with its descriptors.
type state struct {
	Version   int
	Kept      []keptState
	Listening int           `json:",omitempty"` // socket of a fallback
	Notify    int           `json:",omitempty"`
	Dir       string        `json:",omitempty"`
	OOM       int           `json:",omitempty"`
	Broker    int           `json:",omitempty"`
	Ready     bool          `json:",omitempty"`
	EverReady bool          `json:",omitempty"`
	Owns      bool          `json:",omitempty"`
	Missing   time.Time     `json:",omitzero"`
	Next      time.Time     `json:",omitzero"`
	Pause     time.Duration `json:",omitempty"`
	Limit     time.Time     `json:",omitzero"`
	Aborted   bool          `json:",omitempty"`
}

type keptState struct {
	Name string
	FD   int
}

// write makes a memfd of the state. The caller closes it.
func (s state) write() (*os.File, error) {
	fd, err := unix.MemfdCreate("intercede-keep-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "state")
	if err := json.NewEncoder(file).Encode(s); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// readState reads the state that this process was given; nil: none. It unsets the variable.
func readState() (*state, error) {
	text := os.Getenv(stateVariable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(stateVariable)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < firstDescriptor {
		return nil, fmt.Errorf("%s=%.100q: want a descriptor", stateVariable, text)
	}
	file := os.NewFile(uintptr(fd), "state")
	defer file.Close()
	var s state
	if err := json.NewDecoder(io.NewSectionReader(file, 0, 1<<30)).Decode(&s); err != nil {
		return nil, fmt.Errorf("the state of the keeper before this one: %w", err)
	}
	if s.Version != StateVersion {
		return nil, fmt.Errorf("the state of the keeper before this one has version %d: want %d", s.Version, StateVersion)
	}
	for _, k := range s.Kept {
		unix.CloseOnExec(k.FD)
	}
	return &s, nil
}

// setKept gives the shelf what another one had.
func (s *shelf) setKept(all []keptState) {
	for _, k := range all {
		s.kept = append(s.kept, &kept{k.Name, k.FD})
	}
}

// upgrade executes the program at this one's path anew, if that can go on where this one ends: the broker stays, and so
// do all descriptors.
func (k *keeper) upgrade() {
	if k.stopping || len(k.helpers) > 0 {
		return
	}
	program, err := os.Executable()
	if err == nil {
		err = k.check(program, func(status syscall.WaitStatus) {
			if status != 0 {
				k.Log.Error("keeper not upgraded: the new program cannot go on where this one ends", "path", program, "status", describe(status))
				return
			}
			if err := k.become(program); err != nil {
				k.Log.Error("keeper not upgraded", "error", err)
			}
		})
	}
	if err != nil {
		k.Log.Error("keeper not upgraded", "error", err)
	}
}

// check runs the program to ask whether it knows the state that this one would hand on.
func (k *keeper) check(program string, ended func(syscall.WaitStatus)) error {
	pid, err := startProcess([]string{program, "keep", "--knows-state", strconv.Itoa(StateVersion)}, environment(), nil, k.oom, nil)
	if err != nil {
		return err
	}
	k.helpers[pid] = ended
	return nil
}

// become executes the program. It returns only with an error, and the keeper is as before then.
func (k *keeper) become(program string) error {
	s := state{
		Version: StateVersion, Notify: k.notify, Dir: k.dir, OOM: k.oom, Broker: k.broker, Ready: k.ready, EverReady: k.everReady, Owns: k.owns,
		Missing: k.missing, Next: k.next, Pause: k.pause, Limit: k.limit, Aborted: k.aborted,
	}
	inherited := []int{k.notify}
	for _, kept := range k.shelf.kept {
		s.Kept = append(s.Kept, keptState{kept.name, kept.fd})
		inherited = append(inherited, kept.fd)
	}
	file, err := s.write()
	if err != nil {
		return err
	}
	defer file.Close()
	inherited = append(inherited, int(file.Fd()))
	setCloseOnExec(inherited, false)
	defer setCloseOnExec(inherited, true)
	// Nothing is received from a listener after this. A failing exec goes on with the next look at what is due.
	k.answerer.stop()

	// A signal that came before the new program asks for it would end it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := linux.BlockSignals()
	if err != nil {
		return err
	}
	defer linux.RestoreSignals(before)
	env := append(os.Environ(), fmt.Sprintf("%s=%d", stateVariable, file.Fd()))
	return fmt.Errorf("executing %s: %w", program, syscall.Exec(program, os.Args, env))
}

func setCloseOnExec(fds []int, on bool) {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	for _, fd := range fds {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	}
}

// resume goes on where a keeper ended that has become this one.
func (k *keeper) resume() (resumed bool, err error) {
	s, err := readState()
	if s == nil || err != nil {
		return false, err
	}
	k.shelf.setKept(s.Kept)
	unix.CloseOnExec(s.Notify)
	k.notify, k.dir, k.oom, k.broker, k.ready, k.everReady, k.owns = s.Notify, s.Dir, s.OOM, s.Broker, s.Ready, s.EverReady, s.Owns
	k.missing, k.next, k.pause, k.limit, k.aborted = s.Missing, s.Next, s.Pause, s.Limit, s.Aborted
	k.Log.Info("the keeper has executed its program anew", "pid", k.broker, "descriptors", len(k.shelf.kept))
	return true, nil
}
