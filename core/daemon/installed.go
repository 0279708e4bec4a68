package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// Installed is a plugin that is installed, or that the config names.
type Installed struct {
	Name     string
	Path     string
	Enabled  bool           // for some container
	Manifest *wire.Manifest // nil with an Err
	Missing  grant.Powers   // what it asks for and the config does not grant
	Err      error
}

// ListInstalled lists the plugins of the config and of its plugin folder, by name. It runs their binaries for their
// manifests.
func ListInstalled(ctx context.Context, doc *config.Document) []*Installed {
	var list []*Installed
	for _, p := range doc.Plugins {
		list = append(list, &Installed{Name: p.Name, Path: p.Path, Enabled: p.Used})
	}
	for _, name := range installedNames(doc.Broker.PluginDir) {
		if !slices.ContainsFunc(list, func(p *Installed) bool { return p.Name == name }) {
			list = append(list, &Installed{Name: name, Path: filepath.Join(doc.Broker.PluginDir, wire.BinaryPrefix+name)})
		}
	}
	slices.SortFunc(list, func(a, b *Installed) int { return strings.Compare(a.Name, b.Name) })
	concurrently(len(list), func(i int) {
		p := list[i]
		p.Manifest, p.Err = launcher.ReadManifest(ctx, launcher.Spec{Name: p.Name, Path: p.Path})
		var granted *grant.Grant
		if configured := doc.Plugin(p.Name); configured != nil {
			granted = configured.Grant
		}
		p.Missing = granted.Missing(p.Manifest)
	})
	return list
}

// installedNames returns the names of the plugins whose binaries are in the folder: none if it cannot be read.
func installedNames(folder string) []string {
	var names []string
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if name, ok := strings.CutPrefix(entry.Name(), wire.BinaryPrefix); ok {
			names = append(names, name)
		}
	}
	return names
}
