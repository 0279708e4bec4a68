package launcher

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxFindings bounds what a plugin says of settings.
const maxFindings = 64

// maxFinding bounds one of its texts, in bytes.
const maxFinding = 1024

// Validate asks the plugin what is wrong with the settings, a JSON object with every setting of the manifest. A plugin
// without the method, in another language or built with an older SDK, has nothing to say. The texts are one line each.
func (p *Plugin) Validate(ctx context.Context, settings string) ([]*wire.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	run, err := p.running(ctx)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: asking it about its settings: %w", p.spec.Name, err)
	}
	response, err := run.RPC.Validate(ctx, &wire.ValidateRequest{SettingsJson: settings})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	}
	run.learn(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: asking it about its settings: %w", p.spec.Name, classify(ctx, run, err))
	}
	findings := response.GetFindings()
	findings = findings[:min(len(findings), maxFindings)]
	for _, f := range findings {
		f.Text = wire.Plain(f.GetText(), maxFinding)
	}
	return findings, nil
}
