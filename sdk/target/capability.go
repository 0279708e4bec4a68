package target

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/internal/linux"
)

// Capability is the number of a Linux capability, unix.CAP_MKNOD for example (capabilities(7)).
type Capability uint

// Capabilities are a set of them, a bit each.
type Capabilities uint64

// CapabilitySet is the set of the given ones.
func CapabilitySet(capabilities ...Capability) Capabilities {
	var set Capabilities
	for _, c := range capabilities {
		set |= 1 << c
	}
	return set
}

// Has reports whether c is in the set.
func (s Capabilities) Has(c Capability) bool { return s&(1<<c) != 0 }

// String lists their names, "CAP_MKNOD, CAP_SYS_ADMIN".
func (s Capabilities) String() string {
	var names []string
	for number, name := range capabilityNames {
		if s.Has(Capability(number)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// capabilityNames are in the order of their numbers (include/uapi/linux/capability.h).
var capabilityNames = strings.Fields(`
	CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
	CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER
	CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE
	CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP
	CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF
	CAP_CHECKPOINT_RESTORE`)

// ParseCapability looks a capability up by its name, "CAP_MKNOD".
func ParseCapability(name string) (Capability, error) {
	for number, known := range capabilityNames {
		if name == known {
			return Capability(number), nil
		}
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

// setThreadCapabilities sets the three sets of the calling OS thread, which the caller has locked (capset(2)).
func setThreadCapabilities(effective, permitted, inheritable Capabilities) error {
	return linux.SetThreadCapabilities(capabilitySets(effective, permitted, inheritable))
}

func capabilitySets(effective, permitted, inheritable Capabilities) linux.CapabilitySets {
	return linux.CapabilitySets{Effective: uint64(effective), Permitted: uint64(permitted), Inheritable: uint64(inheritable)}
}
