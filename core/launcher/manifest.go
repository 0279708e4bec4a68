package launcher

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// ReadManifest runs the plugin's binary as `PLUGIN manifest`, in a sandbox without any capability, and checks what it
// prints. A spec without a name takes a plugin of any. The context's log (zerolog) says if that takes long.
func ReadManifest(ctx context.Context, spec Spec) (*wire.Manifest, error) {
	return KnownManifests{}.Read(ctx, spec)
}

// runManifest returns what the binary prints.
func runManifest(ctx context.Context, spec Spec, binary *binary) ([]byte, error) {
	defer reportSlow(zerolog.Ctx(ctx).With().Str("plugin", spec.Name).Logger(), "its manifest")()
	return sandbox.PrintManifest(ctx, spec.Name, spec.Path, binary.File, binary.script.how())
}

func parseManifest(text []byte, spec Spec) (*wire.Manifest, error) {
	manifest, err := wire.ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec.Path, err)
	}
	if spec.Name != "" && manifest.GetName() != spec.Name {
		return nil, fmt.Errorf("%s is the plugin %q: name it so in the config", spec.Path, manifest.GetName())
	}
	return manifest, nil
}
