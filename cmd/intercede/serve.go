package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/internal/linux"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func serveCommand() *cobra.Command {
	var config cli.ConfigFlags
	var logging logFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon that container runtimes hand their listeners to",
		Long: `Serve starts the enabled plugins and takes seccomp listeners from OCI runtimes, on the config's socket.

SIGHUP and intercede reload read the config again: containers that come from then on get it, those that run keep what
they have, but for intercede reload --running; a config with problems changes nothing.

SIGTERM and SIGINT end the daemon; calls that are being answered may finish for a moment. Started by systemd or by
intercede keep, it leaves its containers to the next daemon, and their calls wait for that. Otherwise calls that
containers make later get ENOSYS.`,
		Example: "  intercede serve --config /etc/intercede/config.toml\n  intercede profile --format oci > /etc/intercede/seccomp.json",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return serve(ctx, config, &logging)
		},
	}
	config.Register(c)
	logging.register(c)
	return c
}

func serve(ctx context.Context, config cli.ConfigFlags, logging *logFlags) error {
	if err := protectFromOOM(); err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)

	manager, err := findManager()
	if err != nil {
		return err
	}
	started := false
	defer func() {
		if !started && manager.Store.Available() {
			pauseBeforeNext(ctx)
		}
	}()
	setup, err := config.LoadToServe(ctx)
	if err != nil {
		return err
	}
	log, flush, err := logging.open(setup.Policy.Broker)
	if err != nil {
		return err
	}
	defer flush()
	raisePriority(setup.Policy.Broker.Priority, log)
	server, err := daemon.Listen(ctx, setup, manager, log)
	if err != nil {
		return err
	}
	started = true
	server.DroppedRecords = logging.queue.Dropped
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	handedOver := false
	defer func() {
		if !handedOver { // ending shuts connections down, which the next daemon has too
			end()
		}
	}()
	orders := &orders{server: server, config: config, log: log, logs: logging, upgrading: make(chan struct{})}
	server.Orders = control.Orders{Reload: orders.reload, CheckUpgrade: orders.checkUpgrade, End: sync.OnceFunc(func() { close(orders.upgrading) })}
	reloading, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloading)
		orders.reloadOn(serving, hangups)
	}()
	go func() {
		defer close(served)
		err = server.Serve(serving)
	}()
	select {
	case <-served:
	case <-orders.upgrading:
		handedOver = server.HandOver()
	case <-ctx.Done():
		handedOver = server.HandOver()
	}
	if handedOver {
		log.Info().Msg("ending: the next daemon goes on with the containers")
		return nil
	}
	end()
	<-served
	<-reloading
	server.Close()
	log.Info().Msg("ending")
	return err
}

// startPause is between a daemon that cannot start and the next one. That of the unit is shorter, for daemons that have
// served: calls wait for the next one.
const startPause = 500 * time.Millisecond

func pauseBeforeNext(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(startPause):
	}
}

// findManager finds who started this process, and takes over what was kept for it.
func findManager() (daemon.Manager, error) {
	inherited, err := keep.Inherited()
	if err != nil {
		return daemon.Manager{}, err
	}
	store, err := keep.Open(inherited...)
	return daemon.Manager{Store: store, Inherited: inherited}, err
}

// daemonOOMScoreAdj has the OOM killer choose nearly everything else first: containers whose daemon is gone get ENOSYS.
const daemonOOMScoreAdj = -900

// protectFromOOM lowers this process's oom_score_adj, where it may (CAP_SYS_RESOURCE) and no lower one was chosen.
// Plugins have their own (internal/sandbox), and the daemon starts nothing else.
func protectFromOOM() error {
	now, err := linux.OOMScoreAdj()
	if err != nil || now <= daemonOOMScoreAdj {
		return err
	}
	return linux.SetOOMScoreAdj(daemonOOMScoreAdj)
}

// raisePriority gives this process the priority that the config asks for. Plugins have it from this process.
func raisePriority(p linux.Priority, log zerolog.Logger) {
	if p == (linux.Priority{}) {
		return
	}
	if err := linux.SetProcessPriority(p); err != nil {
		log.Warn().Err(err).Msg("the host does not allow the priority of the config")
	}
}
