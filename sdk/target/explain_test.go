package target

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExplain names the capabilities that acting for a target lacks.
func TestExplain(t *testing.T) {
	h := &home{permitted: CapabilitySet(unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID)}
	err := h.explain(CapabilitySet(unix.CAP_MKNOD), unix.EPERM)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "lacks CAP_SYS_CHROOT, CAP_MKNOD;") {
		t.Errorf("got %v", err)
	}
	h.permitted |= CapabilitySet(unix.CAP_SYS_CHROOT)
	if err := h.explain(0, unix.EPERM); err != unix.EPERM {
		t.Errorf("got %v where nothing is lacking", err)
	}
}
