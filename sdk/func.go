package sdk

import (
	"context"
	"slices"
)

// Func makes a handler of a function, for a plugin that keeps nothing about a container but its settings. They are a
// C, a struct (see SettingsOf) whose values in defaults are the settings' own; struct{} for none. The function is
// Session.Handle with the container's settings, which it must not change.
//
// A syscall with RepeatCheck needs a Handler of its own, with Sessions that are Checkers.
func Func[C any](manifest Manifest, defaults C, handle func(ctx context.Context, req *Request, settings *C) (Response, error)) Handler {
	manifest.Settings = append(slices.Clip(manifest.Settings), SettingsOf(defaults)...)
	return &function[C]{manifest, handle}
}

// function is a handler that is a function.
type function[C any] struct {
	manifest Manifest
	handle   func(ctx context.Context, req *Request, settings *C) (Response, error)
}

func (f *function[C]) Manifest() Manifest { return f.manifest }

func (f *function[C]) Attach(_ context.Context, _ Container, settings Settings) (Session, error) {
	s := &functionSession[C]{handle: f.handle}
	if err := settings.Decode(&s.settings); err != nil {
		return nil, err
	}
	return s, nil
}

// Validate implements Validator: settings that C cannot take are refused.
func (f *function[C]) Validate(settings Settings) []Finding {
	var c C
	if err := settings.Decode(&c); err != nil {
		return []Finding{{Text: err.Error()}}
	}
	return nil
}

type functionSession[C any] struct {
	settings C
	handle   func(ctx context.Context, req *Request, settings *C) (Response, error)
}

func (s *functionSession[C]) Handle(ctx context.Context, req *Request) (Response, error) {
	return s.handle(ctx, req, &s.settings)
}
