// Package demo shows what the plugins do: the same system calls in two equal containers, one of them with interception.
package demo

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/intercede/intercede/core/bench/caller"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/run"
	"github.com/rs/zerolog"
)

const (
	// measuredCalls of each example are made in each container, for the cost.
	measuredCalls = 300
	// warmUpCalls come before them and do not count.
	warmUpCalls = 50
)

// ServeCaller is the program in the containers.
func ServeCaller(in io.Reader, out io.Writer) error {
	calls := map[string]caller.Call{}
	for _, e := range examples() {
		calls[e.name] = e.call
	}
	return caller.Serve(in, out, calls)
}

// Run makes the examples of the enabled plugins in both containers. command are the arguments with which this program
// calls ServeCaller. An outcome that is not what it should be is no error: see [Report.Check].
func Run(ctx context.Context, setup *daemon.Setup, command []string, log zerolog.Logger) (*Report, error) {
	shown := enabled(examples(), setup.Policy.Plugins)
	if len(shown) == 0 {
		return nil, errors.New("nothing to show: the config enables neither mknod nor sysinfo; add [plugins.mknod] or [plugins.sysinfo]")
	}
	options := run.Options{Args: command, Memory: memoryLimit}
	without, err := play(ctx, shown, options, nil)
	if err != nil {
		return nil, err
	}
	if options.Filter, err = filter.Program(setup.Manifests, run.ReservedSyscalls()); err != nil {
		return nil, err
	}
	engine, err := daemon.Start(setup, log)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	with, err := play(ctx, shown, options, engine)
	if err != nil {
		return nil, err
	}
	return newReport(shown, without, with), nil
}

// enabled are the examples whose plugins are.
func enabled(all []example, plugins []policy.Plugin) []example {
	return slices.DeleteFunc(all, func(e example) bool {
		return !slices.ContainsFunc(plugins, func(p policy.Plugin) bool { return p.Name == e.plugin && p.Enabled })
	})
}

// play makes the examples in a container, one outcome for each.
func play(ctx context.Context, shown []example, options run.Options, supervisor caller.Supervisor) (outcomes []Outcome, err error) {
	c, err := caller.Start(ctx, options, supervisor)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, e := range shown {
		outcome, err := playOne(ctx, c, e.name)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

func playOne(ctx context.Context, c *caller.Container, name string) (Outcome, error) {
	result, err := c.Show(ctx, name)
	if err != nil {
		return Outcome{}, err
	}
	if _, _, err := c.Measure(ctx, name, warmUpCalls); err != nil {
		return Outcome{}, err
	}
	// A call that is refused is measured like any other.
	durations, _, err := c.Measure(ctx, name, measuredCalls)
	return Outcome{Result: result, P50: caller.Microseconds(durations.Percentile(50))}, err
}
