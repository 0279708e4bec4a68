package notify_test

import (
	"errors"
	"io"
	"log"
	"os"

	"github.com/intercede/intercede/sdk/notify"
	"golang.org/x/sys/unix"
)

// An agent that answers the calls of one filter, whose listener came from a runtime: whatever fails, the caller is
// answered. AUDIT_ARCH_X86_64 and the number say which call it is.
func ExampleListener_Receive() {
	serve := func(file *os.File) error {
		listener, err := notify.NewListener(file)
		if err != nil {
			return err
		}
		defer listener.Close()
		for {
			n, err := listener.Receive()
			if errors.Is(err, io.EOF) {
				return nil // the last filtered task is gone
			}
			if err != nil {
				return err
			}
			go func() {
				if err := reply(n); err != nil && !errors.Is(err, notify.ErrGone) {
					log.Print(err)
				}
			}()
		}
	}
	_ = serve
}

func reply(n *notify.Notification) error {
	if n.Arch != unix.AUDIT_ARCH_X86_64 || n.Number != unix.SYS_MKDIRAT {
		return n.Errno(unix.ENOSYS)
	}
	caller, err := n.Target()
	if err != nil {
		return errors.Join(err, n.Errno(unix.EPERM))
	}
	defer caller.Close()
	path, err := caller.ReadString(n.Args[1], 4096)
	if err != nil {
		return n.Errno(unix.EFAULT)
	}
	log.Printf("mkdirat %q", path)
	return n.Continue() // mkdirat(2) reads the path again, and checks the caller's permissions
}
