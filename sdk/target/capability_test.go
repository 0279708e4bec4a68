package target

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseCapability(t *testing.T) {
	for name, want := range map[string]Capability{
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_MKNOD": unix.CAP_MKNOD,
		"CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
	} {
		if got, err := ParseCapability(name); got != want || err != nil {
			t.Errorf("%s is %d, %v; want %d", name, got, err, want)
		}
	}
	if len(capabilityNames) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names, the last capability is %d", len(capabilityNames), unix.CAP_LAST_CAP)
	}
	for _, name := range []string{"", "MKNOD", "cap_mknod", "CAP_"} {
		if got, err := ParseCapability(name); err == nil {
			t.Errorf("%q is %d", name, got)
		}
	}
}

func TestCapabilitySet(t *testing.T) {
	set := CapabilitySet(unix.CAP_CHOWN, unix.CAP_BPF)
	if !set.Has(unix.CAP_CHOWN) || !set.Has(unix.CAP_BPF) || set.Has(unix.CAP_MKNOD) || CapabilitySet() != 0 {
		t.Errorf("got %#x", uint64(set))
	}
}
