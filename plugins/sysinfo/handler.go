package sysinfo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// handler implements sdk.Handler.
type handler struct{}

// settings are the keys of [plugins.sysinfo.config].
type settings struct {
	Uptime string `json:"uptime" help:"whose uptime a caller sees: \"host\" or \"container\"" pattern:"host|container" example:"container"`
	Loads  string `json:"loads" help:"whose load averages a caller sees: \"host\" or \"container\"" pattern:"host|container" example:"container"`
}

// Values of the settings uptime and loads.
const (
	ofHost      = "host"
	ofContainer = "container"
)

// Manifest implements sdk.Handler. On failure the kernel answers: sysinfo(2) needs no privilege, so a caller learns
// nothing that it could not ask for without the plugin.
func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name:        "sysinfo",
		Version:     "0.1.0",
		Description: "sysinfo(2) shows the container's memory, swap, tasks, uptime and load instead of the host's",
		Syscalls: []sdk.Syscall{{
			Name: "sysinfo", Arguments: []sdk.Argument{{Name: "info"}}, Captures: []sdk.Capture{sdk.CaptureTimeOffsets},
			Repeat: sdk.RepeatSafe, // it only reads
		}},
		// It reads limits and usage of cgroups, when processes began and what their threads do, as anybody on the
		// host may.
		Uses:      sdk.Uses{Host: []string{"/proc", "/sys/fs/cgroup"}},
		Settings:  sdk.SettingsOf(settings{Uptime: ofHost, Loads: ofHost}),
		OnFailure: sdk.FailContinue(),
		// It tells and does nothing that needs a privilege.
		AnyContainer: true,
	}
}

// Attach implements sdk.Handler.
func (handler) Attach(_ context.Context, container sdk.Container, given sdk.Settings) (sdk.Session, error) {
	var s settings
	if err := given.Decode(&s); err != nil {
		return nil, err
	}
	for key, value := range map[string]string{"uptime": s.Uptime, "loads": s.Loads} {
		if value != ofHost && value != ofContainer {
			return nil, fmt.Errorf("%s = %q: want %q or %q", key, value, ofHost, ofContainer)
		}
	}
	folders, err := container.CgroupFolders()
	if err != nil {
		return nil, err
	}
	return newSession(thisHost, container, folders, s), nil
}

// cgroupFolders are those of a container that the plugin sees, by the names in sdk.Container.Cgroups.
type cgroupFolders = map[string]sdk.CgroupFolder

// session is one container: where its numbers come from. What is missing or unreadable leaves the host's number.
type session struct {
	host   *host
	memory *memoryCgroup // nil: the container has no memory cgroup that can be seen
	tasks  *tasks
	start  startTime    // not known: the uptime is the host's
	loads  *loadAverage // nil: the host's
}

func newSession(h *host, container sdk.Container, folders cgroupFolders, s settings) *session {
	session := &session{
		host:   h,
		memory: openMemory(h, container, folders),
		tasks:  openTasks(h, container, folders),
	}
	if s.Uptime == ofContainer {
		session.start = h.startOf(container.InitPID)
	}
	if s.Loads == ofContainer {
		session.loads = keepLoad(h, session.tasks)
	}
	return session
}

// Handle implements sdk.Session.
func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	offset, err := bootOffset(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	info, err := s.sysinfo(ctx, offset)
	if err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(0).Write(req.Pointer(0), info.encode(req.Arch)), nil
}

// bootOffset is what the caller's time namespace adds to the boot-time clock.
func bootOffset(ctx context.Context, req *sdk.Request) (time.Duration, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return 0, err
	}
	offsets, err := caller.TimeOffsets()
	// The kernel has no time namespaces, or does not tell the offsets of this one.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODATA) {
		return 0, nil
	}
	return parseBootOffset(offsets), err
}

// sysinfo gathers what a caller is to see, whose time namespace adds offset to the boot-time clock.
func (s *session) sysinfo(ctx context.Context, offset time.Duration) (sysinfo, error) {
	info, err := s.host.sysinfo()
	if err != nil {
		return sysinfo{}, err
	}
	usage := s.memory.read(info.memory.total, info.swap.total)
	info.memory = limitMemory(info.memory, usage)
	info.swap = limitSwap(info.swap, usage)
	if s.start.known || offset != 0 {
		info.uptime = uptime(s.host.now(), s.start.at, offset)
	}
	if n, ok := s.tasks.count(ctx); ok {
		info.procs = n
	}
	if s.loads != nil {
		info.loads = s.loads.fixed()
	}
	return info, nil
}

// Close implements sdk.Session.
func (s *session) Close() error {
	if s.loads != nil {
		s.loads.close()
	}
	s.memory.close()
	s.tasks.close()
	return nil
}
