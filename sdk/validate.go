package sdk

import (
	"context"
	"errors"

	"github.com/intercede/intercede/internal/wire"
)

// Validator is a Handler that knows which settings it does not serve, beyond what its manifest says of each. Then
// `intercede check` says so, and not the first container's Attach.
//
// Validate is called for the settings of the config and of each of its rules, by `intercede check` and when a config
// comes into force. It is called before each Attach too, which is not called for settings that are refused. There may
// be no container yet: what depends on one is Attach's.
type Validator interface {
	Handler
	// Validate returns what the operator is to know of the settings; none: they are served. It is called concurrently.
	Validate(settings Settings) []Finding
}

// Finding is something that the operator is to know of a plugin's settings.
type Finding struct {
	Key  string // of the setting; empty: of none alone
	Text string // what is wrong and what to do, in one line: `"tmpfs" has no block device: take it out`
	// Warning says that the settings are served all the same: they are dangerous, or do nothing.
	Warning bool
}

// Validate implements the method of plugin.proto.
func (s *server) Validate(_ context.Context, req *wire.ValidateRequest) (*wire.ValidateResponse, error) {
	response := &wire.ValidateResponse{}
	findings, err := s.validate(req.GetSettingsJson())
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		response.Findings = append(response.Findings, &wire.Finding{Key: f.Key, Text: f.Text, Warning: f.Warning})
	}
	return response, nil
}

func (s *server) validate(settings string) (findings []Finding, err error) {
	v, ok := s.handler.(Validator)
	if !ok {
		return nil, nil
	}
	err = recovered(func() error {
		findings = v.Validate(Settings(settings))
		return nil
	})
	return findings, err
}

// checkSettings returns what the handler refuses of the settings.
func (s *server) checkSettings(settings string) error {
	findings, err := s.validate(settings)
	errs := []error{err}
	for _, f := range findings {
		if f.Warning {
			continue
		}
		text := f.Text
		if f.Key != "" {
			text = f.Key + ": " + text
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}
