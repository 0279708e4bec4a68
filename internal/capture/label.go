package capture

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// maxLabel bounds a label, in bytes.
const maxLabel = 4096

// readLabel reads the thread's label, and makes of it what attr/exec takes. Where several security modules are active,
// attr/current is that of one of them; AppArmor has files of its own since kernel 5.8.
func (s *Set) readLabel(tid int, h *Handle) unix.Errno {
	errno := s.read(tid, "attr/apparmor/current", h, maxLabel)
	if errno == unix.ENOENT || errno == unix.EINVAL {
		errno = s.read(tid, "attr/current", h, maxLabel)
	}
	if errno == unix.ENOENT || errno == unix.EINVAL { // no security module has labels
		h.Text = h.Text[:0]
		return 0
	}
	h.Text = append(h.Text[:0], execLabel(h.Text)...)
	return errno
}

// execLabel is what attr/exec takes for a label as attr/current shows it: AppArmor's with "exec" before it, and
// without its mode, which is in parentheses.
func execLabel(current []byte) []byte {
	label := bytes.TrimRight(current, "\x00\n")
	name, isAppArmor := bytes.CutSuffix(label, []byte(")"))
	if i := bytes.LastIndex(name, []byte(" (")); isAppArmor && i >= 0 {
		return append([]byte("exec "), name[:i]...)
	}
	if string(label) == "unconfined" {
		return nil
	}
	return bytes.Clone(label)
}
