package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/sdk/proto"
)

// binaryPrefix is what the names of plugins' binaries begin with.
const binaryPrefix = "intercede-plugin-"

// Installed is a plugin whose binary is there, or that the config names.
type Installed struct {
	Name     string
	Path     string
	Enabled  bool
	Manifest *proto.Manifest // nil with an Err
	Err      error
}

// ListInstalled finds the plugins of the config and of its plugin folder, by name, and runs their binaries for their
// manifests. A folder that does not exist has none.
func ListInstalled(ctx context.Context, config *policy.Config) ([]*Installed, error) {
	var list []*Installed
	for _, p := range config.Plugins {
		list = append(list, &Installed{Name: p.Name, Path: p.Path, Enabled: p.Enabled})
	}
	entries, err := os.ReadDir(config.Broker.PluginDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		name, ok := strings.CutPrefix(entry.Name(), binaryPrefix)
		named := slices.ContainsFunc(list, func(p *Installed) bool { return p.Name == name })
		if ok && !named {
			list = append(list, &Installed{Name: name, Path: filepath.Join(config.Broker.PluginDir, entry.Name())})
		}
	}
	slices.SortFunc(list, func(a, b *Installed) int { return strings.Compare(a.Name, b.Name) })
	var reading sync.WaitGroup
	for _, p := range list {
		reading.Go(func() {
			p.Manifest, p.Err = launcher.ReadManifest(ctx, launcher.Spec{Name: p.Name, Path: p.Path})
		})
	}
	reading.Wait()
	return list, nil
}
