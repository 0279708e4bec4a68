package conformance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/internal/lane"
)

// rounds is how often all calls are made between two counts of the plugin's descriptors.
const rounds = 3

// checkDescriptors counts what the plugin has open before and after many calls of many containers.
func (s *subject) checkDescriptors(ctx context.Context, routes filter.Routes) Finding {
	var before, after map[string]int
	for i := range rounds + 1 {
		err := s.round(ctx, routes)
		if err == nil && i == 0 { // what it opens once is open from then on
			before, err = s.descriptors()
		}
		if err != nil {
			return Finding{Status: Skip, Check: "descriptors", Text: err.Error()}
		}
	}
	s.await(func() bool {
		var err error
		after, err = s.descriptors()
		return err != nil || len(grown(before, after)) == 0
	})
	calls := s.seen.take()
	if failure := s.failures(calls); failure != nil {
		failure.Check = "descriptors"
		return *failure
	}
	if more := grown(before, after); len(more) > 0 {
		return Finding{
			Status: Fail, Check: "descriptors", Text: fmt.Sprintf("after %d calls the plugin has more open: %s", len(calls), joined(more)),
			Next: "close what is opened for a call when it is answered, and what is opened for a container when its session is closed",
		}
	}
	return Finding{Status: OK, Check: "descriptors", Text: fmt.Sprintf("%d before and %d after %d calls", total(before), total(after), len(calls))}
}

// round has a new container make all calls, in every way.
func (s *subject) round(ctx context.Context, routes filter.Routes) error {
	s.dropContainer()
	defer s.dropContainer()
	c, err := s.callers(ctx)
	if err != nil {
		return err
	}
	for i, declared := range s.plugin.Setup.Manifests[0].GetSyscalls() {
		p := probeOf(declared, routes, native)
		if p == nil || slices.Contains(notMade, declared.GetName()) {
			continue
		}
		if _, err := c.Calls(p.variants()...); err != nil {
			return err
		}
		if _, err := c.Threads(p.bases()[0], atOnce); err != nil {
			return err
		}
		if i > 0 {
			continue // that their callers are killed is the same for all calls
		}
		if err := c.Kill(p.bases()[0], killDelays); err != nil {
			return err
		}
	}
	s.settle()
	s.dropContainer()
	s.await(func() bool { return len(s.engine.Broker.Status()) == 0 })
	return nil
}

// descriptors are what the plugin's process has open, by kind: "socket", "anon_inode:[pidfd]", a path.
func (s *subject) descriptors() (map[string]int, error) {
	folder := fmt.Sprintf("/proc/%d/fd", s.status().PID)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	kinds := map[string]int{}
	for _, e := range entries {
		link, err := os.Readlink(folder + "/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		if kind, _, ok := strings.Cut(link, ":["); ok && kind != "anon_inode" {
			link = kind
		}
		kinds[link]++
	}
	return kinds, nil
}

// grown says of which kinds there are more, if there are more of all. A few sockets more are lanes, which are kept for
// later.
func grown(before, after map[string]int) (more []string) {
	const sockets = "socket"
	if total(after)-after[sockets] <= total(before)-before[sockets] && after[sockets] <= before[sockets]+lane.MaxIdleLanes {
		return nil
	}
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		if n := after[kind] - before[kind]; n > 0 {
			more = append(more, fmt.Sprintf("%s +%d", kind, n))
		}
	}
	return more
}

func total(kinds map[string]int) (n int) {
	for _, count := range kinds {
		n += count
	}
	return n
}

// checkRefused reports the system calls that the sandbox refused to the plugin since its start.
func (s *subject) checkRefused() Finding {
	var refused, ask, never []string
	for _, name := range slices.Sorted(maps.Keys(s.status().Refused)) {
		refused = append(refused, name)
		if slices.Contains(s.plugin.Manifest.GetUses().GetSyscalls(), name) {
			never = append(never, name)
		} else {
			ask = append(ask, name)
		}
	}
	f := Finding{Status: OK, Check: "refused calls", Text: "the sandbox refused the plugin no system call"}
	if len(refused) == 0 {
		return f
	}
	f.Status, f.Text = Fail, "the sandbox refused the plugin, with EPERM: "+joined(refused)
	if len(ask) > 0 {
		f.Next = "if the plugin needs it, write " + usesLine(ask) + "; the operator grants it"
	} else {
		f.Next = "no plugin may call " + joined(never) + " with these arguments: --log-level warn shows them"
	}
	return f
}

// usesLine is how a manifest asks for system calls, in Go and in any language.
func usesLine(names []string) string {
	quoted := fmt.Sprintf("%q", names)
	list := strings.ReplaceAll(strings.Trim(quoted, "[]"), `" "`, `", "`)
	return fmt.Sprintf("Uses: sdk.Uses{Syscalls: []string{%[1]s}} in the manifest (as JSON, \"uses\": {\"syscalls\": [%[1]s]})", list)
}

// checkStop has the plugin end.
func (s *subject) checkStop() Finding {
	began := time.Now()
	s.close()
	if s.log.has("plugin failed to exit gracefully") { // go-plugin, client.go
		return Finding{
			Status: Fail, Check: "stop", Text: "the plugin does not end when it is told to, and was killed",
			Next: "end at GRPCController.Shutdown, and when the lifeline is closed",
		}
	}
	return Finding{Status: OK, Check: "stop", Text: fmt.Sprintf("in %v", time.Since(began).Round(time.Millisecond))}
}
