// Package ociruntime is an OCI runtime that executes another one: `intercede oci-runtime`.
//
// Where its command line creates a container, it first asks the daemon what the container's seccomp filter has to
// notify, and adds that and the daemon's socket to linux.seccomp of the bundle's config.json. In every case it then
// becomes the real runtime (execve), with the same arguments, environment, descriptors and standard streams.
package ociruntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/wire"
)

// Options are what the command line of intercede itself says.
type Options struct {
	Config  string // path of the config file
	Runtime string // instead of the config's oci_runtime.runtime, as config.CheckOCIRuntime accepts it; empty: that
}

// Exec prepares the bundle, where args create a container, and becomes the real runtime. It returns only with an error,
// which the log that args name has too.
//
// Call it on the process's first thread: what belongs to a thread, such as the signal that it gets when its parent dies
// (PR_SET_PDEATHSIG), is then the real runtime's too.
func Exec(ctx context.Context, options Options, args []string) error {
	if err := isTried(); err != nil {
		return err
	}
	c := parse(args)
	settings, err := readSettings(options)
	if err == nil || !c.creates() {
		err = settings.exec(ctx, c, args)
	}
	if err != nil {
		c.log("error", err.Error())
	}
	return err
}

func (s settings) exec(ctx context.Context, c command, args []string) error {
	if c.creates() {
		if err := s.prepare(ctx, c); err != nil {
			return err
		}
	}
	return execRuntime(s.runtime, args)
}

// prepare makes the bundle's container notify what the daemon says. What is wrong with a bundle that has no readable
// config.json is the real runtime's to say.
func (s settings) prepare(ctx context.Context, c command) error {
	path := c.configPath()
	file, err := readConfigFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.missing(c, err)
	}
	privileged, err := file.privileged()
	switch {
	case err != nil:
		return err
	case privileged:
		s.preparePrivileged(ctx, c, file)
		return nil
	}
	wanted, err := s.ask(ctx, file, c.id)
	if err == nil {
		err = file.intercept(wanted, s.waitKillable(ctx))
		if err == nil {
			s.prepareDev(c, file, wanted)
		}
		if !errors.Is(err, errUnchangeable) {
			return err
		}
	}
	return s.missing(c, err)
}

// prepareDev mounts the container's /dev for it, where the config says so and nodes are made for the container. One
// that cannot have that is as it would be without: nodes on its /dev are mounts.
func (s settings) prepareDev(c command, file *configFile, wanted *control.Interception) {
	if !s.mountDev || !makesNodes(wanted.Manifests) {
		return
	}
	if err := mountDev(c, file); err != nil {
		c.log("warning", fmt.Sprintf("intercede: /dev of the container is left to the runtime, so that device nodes made there are mounts: %v", err))
	}
}

// waitKillable asks whether the real runtime takes the flag.
func (s settings) waitKillable(ctx context.Context) func() bool {
	return func() bool {
		path, err := FindRuntime(s.runtime)
		return err == nil && TakesWaitKillable(ctx, path) // what is wrong with the runtime, executing it says
	}
}

// preparePrivileged makes a container without a user namespace of its own notify what plugins take that serve such
// containers. They only add to what the container has: it is created without them whatever goes wrong, as the daemon
// itself may be such a container.
func (s settings) preparePrivileged(ctx context.Context, c command, file *configFile) {
	wanted, err := &control.Interception{}, error(nil)
	if file.spec.Linux != nil {
		wanted, err = s.ask(ctx, file, c.id)
	}
	if err == nil {
		wanted.Manifests = slices.DeleteFunc(wanted.Manifests, func(m *wire.Manifest) bool { return !m.GetAnyContainer() })
		err = file.intercept(wanted, s.waitKillable(ctx))
	}
	if err != nil || len(wanted.Manifests) == 0 {
		c.log("info", fmt.Sprintf("intercede: the container has no user namespace of its own: it is left as it is (%v)", cmp.Or(err, errNoPlugin)))
	}
}

var errNoPlugin = errors.New("no plugin that it has serves such containers")

// ask gives what the daemon says of the container.
func (s settings) ask(ctx context.Context, file *configFile, id string) (*control.Interception, error) {
	wanted, err := control.GetInterception(ctx, s.control, file.describe(id))
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: the engines of other users than root take a seccomp profile instead of this runtime", err)
	}
	if err == nil && len(wanted.Manifests) == 0 {
		return wanted, nil
	}
	// Too many annotations are also more than the daemon takes.
	if large := file.checkAnnotations(); large != nil {
		return nil, large
	}
	return wanted, err
}

// notePlain has `intercede status` list the container. It is a help for people, and must not keep the container from
// being created: who may not write the note is another user than root.
func (s settings) notePlain(c command, reason error) {
	bundle, err := filepath.Abs(filepath.Dir(c.configPath()))
	if err != nil {
		return
	}
	record.NotePlain(filepath.Dir(s.control), record.Plain{ID: c.id, Bundle: bundle, Created: time.Now(), Reason: reason.Error()})
}

// missing says what to do with a container that cannot be intercepted.
func (s settings) missing(c command, err error) error {
	if s.onMissing == config.MissingPlain {
		c.log("warning", fmt.Sprintf("intercede: the container is created without interception: %v", err))
		s.notePlain(c, err)
		return nil
	}
	return fmt.Errorf("the container is not created without interception, as oci_runtime.on_missing = %q says: %w", config.MissingFail, err)
}
