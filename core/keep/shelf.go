package keep

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// shelf has the descriptors of a broker, in the order in which they came.
type shelf struct {
	log     *slog.Logger
	size    int // descriptors that it takes
	kept    []*kept
	added   func(*kept)
	dropped func(*kept) // before it is closed
}

// kept is one descriptor.
type kept struct {
	name string
	fd   int
}

// put keeps the descriptor, or closes it and says so.
func (s *shelf) put(name string, fd int) {
	if err := s.check(name); err != nil {
		s.log.Error("a descriptor is lost when the broker ends", "name", name, "error", err)
		unix.Close(fd)
		return
	}
	// A broker that does not know whether its message has arrived sends it again.
	if slices.ContainsFunc(s.kept, func(k *kept) bool { return k.name == name && linux.SameFile(k.fd, fd) }) {
		unix.Close(fd)
		return
	}
	k := &kept{name, fd}
	s.kept = append(s.kept, k)
	if s.added != nil {
		s.added(k)
	}
}

func (s *shelf) check(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(s.kept) >= s.size {
		return fmt.Errorf("%w: it takes %d descriptors (RLIMIT_NOFILE)", ErrFull, s.size)
	}
	names := len(name) + 1
	for _, k := range s.kept {
		names += len(k.name) + 1
	}
	if names > maxNames { // no broker could be started any more
		return fmt.Errorf("%w: the names of its descriptors would have %d bytes, and may have %d", ErrFull, names, maxNames)
	}
	return nil
}

// remove closes all descriptors of this name.
func (s *shelf) remove(name string) {
	s.removeIf(func(k *kept) bool { return k.name == name })
}

func (s *shelf) removeIf(unwanted func(*kept) bool) {
	s.kept = slices.DeleteFunc(s.kept, func(k *kept) bool {
		if !unwanted(k) {
			return false
		}
		if s.dropped != nil {
			s.dropped(k)
		}
		unix.Close(k.fd)
		return true
	})
}

// clear closes all.
func (s *shelf) clear() { s.removeIf(func(*kept) bool { return true }) }

// needsAnswers reports whether somebody may wait for an answer on one of them.
func (s *shelf) needsAnswers() bool {
	return slices.ContainsFunc(s.kept, func(k *kept) bool { return k.isListener() || k.isMonitor() })
}

// Prefixes of the names of descriptors on which calls come.
const (
	listenerPrefix = "listener." // seccomp listeners
	monitorPrefix  = "lxc."      // connections of LXC's monitors
)

func (k *kept) isListener() bool { return strings.HasPrefix(k.name, listenerPrefix) }
func (k *kept) isMonitor() bool  { return strings.HasPrefix(k.name, monitorPrefix) }

// number is a part of the name, which the broker has made of numbers: that of the container or connection is 1.
func (k *kept) number(i int) string {
	if parts := strings.Split(k.name, "."); i < len(parts) {
		return parts[i]
	}
	return ""
}
