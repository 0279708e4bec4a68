// Package demo shows what the plugins do: the same system calls in two equal containers, one of them with interception.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/rs/zerolog"
)

const (
	// measuredCalls of each example are made in each container, for the cost.
	measuredCalls = 300
	// warmUpCalls come before them and do not count.
	warmUpCalls = 50
)

// ServeCaller is the program in the containers. The arguments are those that Run adds to its command.
func ServeCaller(args []string, in io.Reader, out io.Writer) error {
	d, err := parseDisk(args)
	if err != nil {
		return err
	}
	calls := map[string]caller.Call{}
	for _, e := range examples(d) {
		call, err := e.call()
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		calls[e.name] = call
	}
	return caller.Serve(in, out, calls)
}

// Run makes the examples of the plugins whose programs are in the folder, in both containers. command are the arguments
// with which this program calls ServeCaller. An outcome that is not what it should be is not an error: see
// [Report.Check].
func Run(ctx context.Context, pluginDir string, command []string, log zerolog.Logger) (*Report, error) {
	dir, err := os.MkdirTemp("/var/tmp", "intercede-demo-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	d, err := disk.New(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("make a disk to mount: %w", err)
	}
	defer d.Close()
	found := installed(pluginDir, plugins(d))
	shown := slices.DeleteFunc(examples(d), func(e example) bool { return !found[e.plugin] })
	if len(shown) == 0 {
		return nil, fmt.Errorf("nothing to show: there are no plugins in %s; make build, and --plugin-dir bin, or set plugin_dir in the config", pluginDir)
	}
	path := filepath.Join(dir, "config.toml")
	if err := writeConfig(path, pluginDir, found, plugins(d)); err != nil {
		return nil, err
	}
	setup, problems := daemon.Load(ctx, path, config.Options{})
	if len(problems) > 0 {
		return nil, problems
	}
	setup.NoWarning = true
	return compare(ctx, setup, shown, options(d, command), log)
}

// options are those of both containers.
func options(d disk.Disk, command []string) run.Options {
	return run.Options{
		Args:    slices.Concat(command, []string{d.Image, strconv.Itoa(int(d.Minor))}),
		Memory:  memoryLimit,
		Devices: []string{d.Rule(), fmt.Sprintf("c %d:%d rw", fuseMajor, fuseMinor)},
	}
}

// parseDisk reads the arguments that options adds.
func parseDisk(args []string) (disk.Disk, error) {
	if len(args) != 2 {
		return disk.Disk{}, errors.New("want IMAGE MINOR")
	}
	minor, err := strconv.ParseUint(args[1], 10, 20)
	return disk.Disk{Image: args[0], Minor: uint32(minor)}, err
}

// compare makes the examples in a container without interception, and in one with it.
func compare(ctx context.Context, setup *daemon.Setup, shown []example, options run.Options, log zerolog.Logger) (*Report, error) {
	without, err := play(ctx, shown, options, nil)
	if err != nil {
		return nil, err
	}
	if options.Filter, err = filter.Program(setup.Manifests, run.ReservedSyscalls()); err != nil {
		return nil, err
	}
	engine, err := daemon.Start(ctx, setup, broker.State{}, log)
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

func playOne(ctx context.Context, c *caller.Caller, name string) (Outcome, error) {
	result, err := c.Show(ctx, name)
	if err != nil {
		return Outcome{}, err
	}
	if _, _, err := c.Measure(ctx, name, warmUpCalls, 0); err != nil {
		return Outcome{}, err
	}
	// A call that is refused is measured like any other.
	durations, _, err := c.Measure(ctx, name, measuredCalls, 0)
	return Outcome{Result: result, P50: caller.Microseconds(durations.Percentile(50))}, err
}
