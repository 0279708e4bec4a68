package caller

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call. The caller makes memory for its arguments anew each time.
type Call struct {
	Name   string
	Number int32
	Compat bool // the call is one of the machine's 32-bit architecture
	Args   [6]Argument
}

// Argument is what a register has. The zero Argument is the number 0.
type Argument struct {
	Kind  Kind
	Value uint64 // of a Number
	Text  string // of a Text, or of the Edge without its NUL
	Size  int    // of the others, in bytes
}

// Kind says what an Argument is.
type Kind int

const (
	Number     Kind = iota
	Null            // a pointer
	Bad             // the address 1
	Unreadable      // a page that may be neither read nor written
	ReadOnly        // a page that may be read alone, full of 0xff
	Text            // a string
	Long            // a string of so many bytes
	Bytes           // so many bytes that may be written, all of them 0xff
	Edge            // a string without its NUL, or half of the bytes, at the end of the last page that may be read
)

// String is the argument as a report shows it.
func (a Argument) String() string {
	switch a.Kind {
	case Null:
		return "NULL"
	case Bad:
		return "bad pointer"
	case Unreadable:
		return "unreadable page"
	case ReadOnly:
		return "read-only page"
	case Text:
		return strconv.Quote(a.Text)
	case Long:
		return fmt.Sprintf("string of %d bytes", a.Size)
	case Bytes:
		return fmt.Sprintf("%d bytes", a.Size)
	case Edge:
		return "page edge"
	default:
		return fmt.Sprintf("%#x", a.Value)
	}
}

// String is the call as a report shows it, without trailing zeros.
func (c Call) String() string {
	last := len(c.Args)
	for last > 0 && c.Args[last-1] == (Argument{}) {
		last--
	}
	text := c.Name + "("
	for i, a := range c.Args[:last] {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text + ")"
}

// Result is what a call returned.
type Result struct {
	Value int64
	Errno syscall.Errno
	// Ended, if it is not empty, says why there is no result: the call ended its caller, or held it up. The kernel may
	// have done that, to which a call is left.
	Ended string `json:",omitempty"`
}

// prepared is a call whose memory is there.
type prepared struct {
	*Call
	registers [6]uintptr
	err       error // why the memory is not there
}

func prepare(call *Call) prepared {
	registers, err := call.registers()
	return prepared{call, registers, err}
}

// make makes the call. One of a 32-bit architecture keeps a processor of the Go runtime while it waits.
func (p prepared) make() Result {
	switch r := p.registers; {
	case p.err != nil:
		return Result{Ended: p.err.Error()}
	case p.Compat:
		return makeCompat(p.Number, r)
	default:
		value, _, errno := syscall.Syscall6(uintptr(p.Number), r[0], r[1], r[2], r[3], r[4], r[5])
		return Result{Value: int64(value), Errno: errno}
	}
}

func (c *Call) registers() (registers [6]uintptr, err error) {
	for i, a := range c.Args {
		if registers[i], err = a.register(); err != nil {
			return registers, fmt.Errorf("memory for argument %d of %s: %w", i, c.Name, err)
		}
	}
	return registers, nil
}

func (a Argument) register() (uintptr, error) {
	switch a.Kind {
	case Null:
		return 0, nil
	case Bad:
		return 1, nil
	case Unreadable:
		return mapped(os.Getpagesize(), 0, unix.PROT_NONE, nil)
	case ReadOnly:
		return mapped(os.Getpagesize(), 0, unix.PROT_READ, filled(os.Getpagesize(), 0xff))
	case Text:
		return mapped(len(a.Text)+1, 0, unix.PROT_READ|unix.PROT_WRITE, []byte(a.Text))
	case Long:
		return mapped(a.Size+1, 0, unix.PROT_READ|unix.PROT_WRITE, filled(a.Size, 'a'))
	case Bytes:
		return mapped(a.Size, 0, unix.PROT_READ|unix.PROT_WRITE, filled(a.Size, 0xff))
	case Edge:
		content := []byte(a.Text)
		if a.Text == "" {
			content = filled((a.Size+1)/2, 0xff)
		}
		return mapped(len(content), len(content), unix.PROT_READ|unix.PROT_WRITE, content)
	default:
		return uintptr(a.Value), nil
	}
}

func filled(size int, with byte) []byte {
	content := make([]byte, size)
	for i := range content {
		content[i] = with
	}
	return content
}

// mapped maps size bytes with the content, and a page behind them that may not be touched. The content begins at the
// address that is returned: fromEnd bytes before that page, or, if this is 0, with the first page. 32-bit callers can
// name the address.
func mapped(size, fromEnd, protection int, content []byte) (uintptr, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|mapLow)
	if err != nil {
		return 0, fmt.Errorf("mmap: %w", err)
	}
	begin := 0
	if fromEnd > 0 {
		begin = size - fromEnd
	}
	copy(memory[begin:], content)
	for _, part := range []struct {
		memory     []byte
		protection int
	}{{memory[:size], protection}, {memory[size:], unix.PROT_NONE}} {
		if err := unix.Mprotect(part.memory, part.protection); err != nil {
			return 0, fmt.Errorf("mprotect: %w", err)
		}
	}
	return uintptr(unsafe.Pointer(&memory[begin])), nil
}
