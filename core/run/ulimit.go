package run

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ulimit is a limit on resources (setrlimit(2)), as podman's --ulimit has it.
type ulimit struct {
	Name       string
	Resource   int
	Soft, Hard uint64 // in the resource's unit; unlimited: RLIM_INFINITY
}

var resources = map[string]int{
	"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS,
	"memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

const unlimited = math.MaxUint64 // RLIM_INFINITY

// parseUlimits reads NAME=SOFT[:HARD].
func parseUlimits(texts []string) ([]ulimit, error) {
	var limits []ulimit
	for _, text := range texts {
		l, err := parseUlimit(text)
		if err != nil {
			return nil, fmt.Errorf("ulimit %q: %w", text, err)
		}
		if limitsOn(limits, l.Resource) {
			return nil, fmt.Errorf("ulimit %q: the limit %s is there twice", text, l.Name)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func parseUlimit(text string) (ulimit, error) {
	name, values, _ := strings.Cut(text, "=")
	resource, known := resources[name]
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	l := ulimit{Name: name, Resource: resource}
	var err1, err2 error
	l.Soft, err1 = parseLimit(soft)
	l.Hard, err2 = parseLimit(hard)
	if !known || err1 != nil || err2 != nil {
		return l, errors.New("want NAME=SOFT[:HARD], such as \"nofile=1024:4096\": NAME is that of a limit of setrlimit(2), as in " +
			"\"memlock\", and a value a number, or -1 for none")
	}
	if l.Soft > l.Hard {
		return l, errors.New("the soft limit is above the hard one")
	}
	return l, nil
}

func parseLimit(text string) (uint64, error) {
	if text == "-1" || text == "unlimited" {
		return unlimited, nil
	}
	const bits = 63
	return strconv.ParseUint(text, 10, bits)
}

// raiseUlimits raises the hard limits of the init, which is not privileged to do it itself. It sets the rest when
// nothing else is left to do.
func raiseUlimits(pid int, limits []ulimit) error {
	for _, l := range limits {
		var now unix.Rlimit
		if err := unix.Prlimit(pid, l.Resource, nil, &now); err != nil {
			return fmt.Errorf("read the limit %s of the container: %w", l.Name, err)
		}
		if l.Hard <= now.Max {
			continue
		}
		if err := unix.Prlimit(pid, l.Resource, &unix.Rlimit{Cur: now.Cur, Max: l.Hard}, nil); err != nil {
			return fmt.Errorf("raise the limit %s to %s: %w; this process has %s itself, and needs CAP_SYS_RESOURCE for more", l.Name,
				limitText(l.Hard), err, limitText(now.Max))
		}
	}
	return nil
}

func limitText(limit uint64) string {
	if limit == unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(limit, 10)
}

// setUlimits sets the limits of the calling process.
func setUlimits(limits []ulimit) error {
	for _, l := range limits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("set the limit %s: %w", l.Name, err)
		}
	}
	return nil
}

// limitsOn reports whether one of the limits is on the resource.
func limitsOn(limits []ulimit, resource int) bool {
	return slices.ContainsFunc(limits, func(l ulimit) bool { return l.Resource == resource })
}
