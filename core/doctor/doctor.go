// Package doctor says what this kernel and host can do for interception, and what is missing. It asks by trying: a
// version number does not know what was backported, configured away or forbidden.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// State is what became of a check.
type State string

const (
	OK       State = "ok"
	Degraded State = "degraded" // something works less well, or not at all, and the rest does
	Missing  State = "missing"  // nothing works without
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Found string `json:"found"`
	// Means is what it is for if the state is OK, and else what does not work and what to do.
	Means string `json:"means"`
}

// probe looks at one thing. An error makes the check Missing if the thing is required, and Degraded if not.
type probe struct {
	name     string
	required bool
	purpose  string
	without  string // what does not work without it, and what to do
	try      func(context.Context) (found string, err error)
}

// probeTimeout bounds a probe: what it asks, a runtime or the kernel, may not answer.
const probeTimeout = 15 * time.Second

// Run makes all checks; config is the path of the host's config. The program must call [Init] and run.Init first in
// main: what would change this process, or the host, is tried in a process of its own.
func Run(ctx context.Context, config string) []Check {
	var checks []Check
	for _, p := range slices.Concat(kernelProbes, hostProbes, installProbes(config), []probe{storeProbe}, runtimeProbes()) {
		checks = append(checks, p.check(ctx))
	}
	return checks
}

func (p probe) check(ctx context.Context) Check {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	found, err := p.try(ctx)
	if err == nil {
		return Check{Name: p.name, State: OK, Found: found, Means: p.purpose}
	}
	c := Check{Name: p.name, State: Degraded, Found: err.Error(), Means: p.without}
	if found != "" {
		c.Found = found + ": " + c.Found
	}
	if p.required {
		c.State = Missing
	}
	return c
}

// Usable reports whether nothing required is missing.
func Usable(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return c.State == Missing })
}

// WriteJSON writes the checks as an array of objects.
func WriteJSON(w io.Writer, checks []Check) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(checks)
}

// WriteTable writes a line for each check, and below one that is not OK what to do.
func WriteTable(w io.Writer, checks []Check) error {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		if _, err := fmt.Fprintf(w, "%-8s  %-*s  %s\n", c.State, width, c.Name, c.Found); err != nil {
			return err
		}
		if c.State == OK {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-8s  → %s\n", "", c.Means); err != nil {
			return err
		}
	}
	return nil
}
