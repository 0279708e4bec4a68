package broker

import (
	"context"
	"errors"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// boundPlugin is a container's use of one plugin.
type boundPlugin struct {
	binding    *Binding
	assigned   *Binding    // before a fallback
	kept       *wire.Store // by the plugin
	figures    *pluginFigures
	session    *launcher.Session // nil: the plugin refused the container
	refused    error             // why it did, errRevoked or errWithheld; its calls get the failure verdict
	privileged bool              // its process has capabilities
	calls      *metrics.Plugin   // counts them; nil: nothing does
	fellBack   error             // why the plugin refused the settings, where it took the fallback, which binding then has
	// named is SyscallName of an earlier generation, which the binding is of; nil: it is of the container's own.
	named func(arch uint32, nr int32, first uint64) (name string, taken bool)
}

// bind begins the use of the plugin, which has kept so far what is in the store.
func (p *boundPlugin) bind(binding *Binding, kept *wire.Store, figures *pluginFigures) {
	p.binding, p.assigned, p.kept, p.figures = binding, binding, kept, figures
	p.privileged = len(binding.Plugin.Manifest().GetCapabilities()) > 0
}

// attach attaches the container to the plugin. The counter is that of the container's calls.
func (p *boundPlugin) attach(ctx context.Context, c *wire.Container, counter launcher.Counter, log zerolog.Logger) {
	if p.binding.Revoked {
		p.refused = p.binding.silence()
		return
	}
	err := p.open(ctx, c, counter, log)
	switch {
	case errors.Is(err, launcher.ErrRefused):
		log.Error().Err(err).Msg("the plugin does not serve this container: its calls get the failure verdict")
		p.session, p.refused = nil, err
	case err != nil:
		log.Warn().Err(err).Msg("the plugin could not attach the container yet: its next call tries again")
	}
}

// open opens a session, with the fallback settings if the plugin refuses the others.
func (p *boundPlugin) open(ctx context.Context, c *wire.Container, counter launcher.Counter, log zerolog.Logger) error {
	p.session = p.binding.Plugin.NewSession(c, p.binding.Settings, counter, p.kept.Entries)
	err := p.session.Attach(ctx)
	if errors.Is(err, launcher.ErrRefused) && p.binding.Fallback != "" {
		log.Warn().Err(err).Msg("the plugin refuses settings of the container's annotations: they are ignored")
		p.fallBack(err)
		p.session = p.binding.Plugin.NewSession(c, p.binding.Settings, counter, p.kept.Entries)
		err = p.session.Attach(ctx)
	}
	return err
}

// fallBack replaces the binding, which other containers may share, by one without the refused settings.
func (p *boundPlugin) fallBack(refusal error) {
	binding := *p.binding
	binding.Settings = binding.Fallback
	p.binding, p.fellBack = &binding, refusal
}
