package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/daemon"
	policyconfig "github.com/intercede/intercede/core/policy/config"
	"github.com/rs/zerolog"
)

// orders are what an operator asks the daemon to do.
type orders struct {
	server *daemon.Server
	config cli.ConfigFlags
	log    zerolog.Logger
	logs   *logFlags // with which log was opened

	mu        sync.Mutex    // held during a reload
	upgrading chan struct{} // closed when the daemon has to end for an upgrade
}

// reloadOn reloads the config at every signal, until ctx is done.
func (o *orders) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		done, err := o.reload(ctx, false)
		if err == nil {
			err = asError(done.Problems)
		}
		if err != nil {
			o.log.Error().Err(err).Msg("config not reloaded: the former one stays")
		}
	}
}

func asError(problems policyconfig.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	return problems
}

func (o *orders) reload(ctx context.Context, running bool) (done *control.Reloaded, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.server.NoteReload(done, err) }()
	options, err := o.config.Options()
	if err != nil {
		return nil, err
	}
	setup, problems := daemon.Load(o.log.WithContext(ctx), o.config.Path, options)
	if len(problems) > 0 {
		return &control.Reloaded{Problems: problems}, nil
	}
	changes, err := o.server.Reload(ctx, setup)
	if errors.As(err, &problems) { // what the plugins say of their settings
		return &control.Reloaded{Problems: problems}, nil
	}
	if err != nil {
		return nil, err
	}
	done = &control.Reloaded{Changes: changes}
	if running {
		done.Containers = o.server.Apply(ctx)
	}
	return done, o.logs.apply(setup.Policy.Broker)
}

// checkUpgrade returns what the daemon's manager would start in its place, if that has nothing against the config.
func (o *orders) checkUpgrade(ctx context.Context) (*control.Upgrade, error) {
	if !o.server.IsKept() {
		return nil, errors.New("nobody keeps the containers for the next daemon: start it by systemd or by `intercede keep -- intercede serve`")
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	check := exec.CommandContext(ctx, program, "check", "--config", o.config.Path)
	if options, err := o.config.Options(); err != nil {
		return nil, err
	} else if options.PluginDir != "" {
		check.Args = append(check.Args, "--plugin-dir", options.PluginDir)
	}
	var said bytes.Buffer
	check.Stdout, check.Stderr = &said, &said
	if err := check.Run(); err != nil {
		return nil, fmt.Errorf("%s check: %w: %s", program, err, strings.TrimSpace(said.String()))
	}
	return &control.Upgrade{PID: os.Getpid(), Program: program}, nil
}
