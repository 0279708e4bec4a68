package why

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/intercede/intercede/sdk/target"
)

// Process is what the kernel says of a process: of its first thread.
type Process struct {
	PID          int                 `json:"pid"`
	ContainerPID int                 `json:"container_pid"` // in its own pid namespace
	Comm         string              `json:"comm"`
	Seccomp      int                 `json:"seccomp"`         // 0: none, 1: strict, 2: it has a filter
	Filters      int                 `json:"seccomp_filters"` // 0 before kernel 5.9, which does not say
	NamespaceID  target.NamespaceID  `json:"-"`
	OfHost       bool                `json:"user_namespace_of_host"`
	Capabilities target.Capabilities `json:"-"`
	Effective    string              `json:"effective_capabilities"`
}

// ReadProcess reads it. The error says if there is no such process.
func ReadProcess(pid int) (*Process, error) {
	proc := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(proc + "/status")
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no process %d on this host: "+
			"give the PID that `ps` on the host shows, not the one in the container", pid)
	}
	if err != nil {
		return nil, err
	}
	p := parseProcess(status)
	p.PID = pid
	user, err1 := target.StatNamespace(proc + "/ns/user")
	own, err2 := target.StatNamespace("/proc/self/ns/user")
	p.NamespaceID, p.OfHost = user, user == own
	return p, errors.Join(err1, err2)
}

// parseProcess reads /proc/PID/status (proc_pid_status(5)).
func parseProcess(status []byte) *Process {
	p := &Process{}
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		text := string(bytes.TrimSpace(value))
		fields := bytes.Fields(value)
		number := func(base int) uint64 {
			if len(fields) == 0 {
				return 0
			}
			n, _ := strconv.ParseUint(string(fields[len(fields)-1]), base, 64)
			return n
		}
		switch string(key) {
		case "Name":
			p.Comm = text
		case "NSpid":
			p.ContainerPID = int(number(10))
		case "Seccomp":
			p.Seccomp = int(number(10))
		case "Seccomp_filters":
			p.Filters = int(number(10))
		case "CapEff":
			p.Capabilities = target.Capabilities(number(16))
			p.Effective = p.Capabilities.String()
		}
	}
	return p
}
