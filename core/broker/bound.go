package broker

import (
	"context"
	"errors"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// boundPlugin is a container's use of one plugin.
type boundPlugin struct {
	binding    *Binding
	kept       *wire.Store // by the plugin
	figures    *pluginFigures
	session    *launcher.Session // nil: the plugin refused the container
	refused    error             // why it did, or errRevoked; its calls get the failure verdict
	privileged bool              // its process has capabilities
	fellBack   error             // why the plugin refused the settings, where it took the fallback, which binding then has
}

// attach attaches the container to the plugin. The counter is that of the container's calls.
func (p *boundPlugin) attach(ctx context.Context, c *wire.Container, counter launcher.Counter, log zerolog.Logger) {
	if p.binding.Revoked {
		p.refused = errRevoked
		return
	}
	session, err := p.open(ctx, c, counter)
	if errors.Is(err, launcher.ErrRefused) && p.binding.Fallback != "" {
		log.Warn().Err(err).Msg("the plugin refuses settings of the container's annotations: they are ignored")
		p.fallBack(err)
		session, err = p.open(ctx, c, counter)
	}
	if errors.Is(err, launcher.ErrRefused) {
		log.Error().Err(err).Msg("the plugin does not serve this container: its calls get the failure verdict")
		p.refused = err
		return
	}
	if err != nil {
		log.Warn().Err(err).Msg("the plugin could not attach the container yet: its next call tries again")
	}
	p.session = session
}

func (p *boundPlugin) open(ctx context.Context, c *wire.Container, counter launcher.Counter) (*launcher.Session, error) {
	session := p.binding.Plugin.NewSession(c, p.binding.Settings, counter, p.kept.Entries)
	return session, session.Attach(ctx)
}

// fallBack replaces the binding, which other containers may share, by one without the refused settings.
func (p *boundPlugin) fallBack(refusal error) {
	binding := *p.binding
	binding.Settings = binding.Fallback
	p.binding, p.fellBack = &binding, refusal
}
