// Package bench measures what a notification costs on this machine: how long a system call takes, as its caller sees
// it, by the shortest supervisor there can be and by the broker with its plugins, and how that changes with many
// callers, slow calls and many containers.
package bench

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/daemon"
	"github.com/rs/zerolog"
)

const (
	// roundCalls are made of one row before it is the next row's turn, so that what changes on the machine meanwhile
	// (its clock, its load) hits all rows alike.
	roundCalls = 500
	// warmUpCalls of each row come first and do not count.
	warmUpCalls = 200
)

// Options say what to measure.
type Options struct {
	// Calls are counted of each row.
	Calls int
	// Listeners are attached at once; 0: that is not measured.
	Listeners int
	// RowsOnly leaves out all but the rows.
	RowsOnly bool
	// Caller are the arguments with which this program calls ServeCaller.
	Caller []string
	// Native are those with which it calls ServeNative.
	Native []string
	// Generator are those with which it calls ServeListeners.
	Generator []string
	// Watcher are those with which it calls Watch; process ids are added to them.
	Watcher []string
	// Exec are those with which it calls Perform; nil: a program executed for each call is not measured.
	Exec []string
}

// ServeCaller is the program in the containers. With a number in the arguments it can mount the loop device of that
// number.
func ServeCaller(args []string, in io.Reader, out io.Writer) error {
	made, err := calls(args)
	if err != nil {
		return err
	}
	return caller.Serve(in, out, made)
}

// Run starts the plugins of the setup and containers that use them, measures, and ends them again. The config's limit
// on the rate does not count.
func Run(ctx context.Context, setup *daemon.Setup, options Options, log zerolog.Logger) (report *Report, err error) {
	b := &bench{options: options}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx, unlimited(setup), log); err != nil {
		return nil, err
	}
	for _, r := range b.rows {
		if err := r.start(ctx, options, b.disk); err != nil {
			return nil, err
		}
		if _, err := r.measure(ctx, max(min(warmUpCalls, options.Calls)/r.slowness, 1), 0); err != nil {
			return nil, err
		}
	}
	if err := b.measure(ctx); err != nil {
		return nil, err
	}
	if report, err = b.report(); err != nil || options.RowsOnly {
		return report, err
	}
	for _, measure := range []func(context.Context, *Report) error{b.measureRare, b.measureBlocked, b.measureThroughput, b.measureScale} {
		if err := measure(ctx, report); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// unlimited is the setup without a rate: a caller that waits for its turn is not a cost.
func unlimited(setup *daemon.Setup) *daemon.Setup {
	free, policy := *setup, *setup.Policy
	policy.Broker.Rate = 0
	free.Policy = &policy
	return &free
}

// bench is a measurement on its way.
type bench struct {
	options     Options
	rows        []*row
	leftOut     []LeftOut
	supervisors []caller.Supervisor
	cleanUps    []func()       // after all else, the last first
	disk        disk.Disk      // of the rows that mount
	noop        *broker.Broker // with the plugin noop; nil: it is not installed
	engine      *daemon.Engine
}

func (b *bench) add(r *row) {
	r.slowness = max(r.slowness, 1)
	b.rows = append(b.rows, r)
}

func (b *bench) leaveOut(name, reason string) { b.leftOut = append(b.leftOut, LeftOut{name, reason}) }

// supervise has a supervisor closed at the end.
func (b *bench) supervise(s caller.Supervisor) { b.supervisors = append(b.supervisors, s) }

func (b *bench) cleanUp(fn func()) { b.cleanUps = append(b.cleanUps, fn) }

// measure takes the rows in turn until each has all its calls.
func (b *bench) measure(ctx context.Context) error {
	for left := b.options.Calls; left > 0; left -= roundCalls {
		for _, r := range b.rows {
			durations, err := r.measure(ctx, max(min(left, roundCalls)/r.slowness, 1), 0)
			if err != nil {
				return err
			}
			r.rounds = append(r.rounds, durations)
		}
	}
	return nil
}

// close ends the containers, and then who answers them.
func (b *bench) close() error {
	var failures []error
	for _, r := range b.rows {
		if r.container != nil {
			failures = append(failures, r.container.Close())
		}
	}
	for _, s := range b.supervisors {
		s.Close()
	}
	for _, cleanUp := range slices.Backward(b.cleanUps) {
		cleanUp()
	}
	return errors.Join(failures...)
}
