package daemon

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/core/why"
)

// whyPID explains how the calls of a process are served.
func (s *Server) whyPID(pid int) ([]why.Report, error) {
	process, err := why.ReadProcess(pid)
	if err != nil {
		return nil, err
	}
	facts := why.Facts{Process: process, Now: time.Now()}
	if found := s.engine.FactsByPID(pid); len(found) > 0 {
		return explainAll(facts, found), nil
	}
	if lost, ok := s.engine.LostByPID(pid); ok {
		facts.Lost = &lost
	} else {
		facts.Plain = s.plain(func(p record.Plain) bool { return p.ID != "" && inCgroupOf(pid, p.ID) })
	}
	return []why.Report{why.Explain(facts)}, nil
}

// whyID explains how the calls of the containers with this ID or name are served, or of those whose IDs begin so. None:
// there is no such container.
func (s *Server) whyID(id string) []why.Report {
	facts := why.Facts{Now: time.Now()}
	if found := s.engine.FactsByID(id); len(found) > 0 {
		return explainAll(facts, found)
	}
	lost := s.engine.Lost()
	if i := slices.IndexFunc(lost, func(l broker.LostContainer) bool { return strings.HasPrefix(l.ID, id) }); i >= 0 {
		facts.Lost = &lost[i]
	} else {
		facts.Plain = s.plain(func(p record.Plain) bool { return strings.HasPrefix(p.ID, id) })
	}
	if facts.Lost == nil && facts.Plain == nil {
		return nil
	}
	return []why.Report{why.Explain(facts)}
}

func explainAll(facts why.Facts, found []broker.ContainerFacts) (reports []why.Report) {
	for i := range found {
		facts.Container = &found[i]
		reports = append(reports, why.Explain(facts))
	}
	return reports
}

// plain returns the first wanted container that was created without interception; nil: there is none.
func (s *Server) plain(wanted func(record.Plain) bool) *record.Plain {
	list := s.listPlain()
	if i := slices.IndexFunc(list, wanted); i >= 0 {
		return &list[i]
	}
	return nil
}

// inCgroupOf reports whether the process is in a cgroup that is named for the container: engines do that.
func inCgroupOf(pid int, id string) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && strings.Contains(string(text), id)
}

// why answers an operator. What is a number is a process, unless it is a container's ID or name, or, where there is no
// such process, the beginning of an ID.
func (s *Server) why(who string) ([]why.Report, error) {
	reports := s.whyID(who)
	isContainer := slices.ContainsFunc(reports, func(r why.Report) bool {
		return r.Container == nil || r.Container.ID == who || r.Container.Name == who
	})
	if pid, err := strconv.Atoi(who); err == nil && pid > 0 && !isContainer {
		ofProcess, err := s.whyPID(pid)
		if err == nil || len(reports) == 0 {
			return ofProcess, err
		}
	}
	return reports, nil
}
