// Package single sets up one plugin of which there is a binary and nothing else: no config, and no folder of root's to
// install it in. All else is as in production: the config that it writes goes the way of every config, and grants what
// the manifest asks for.
package single

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Options name the plugin.
type Options struct {
	Binary string // of any owner: a copy is used
	// Settings are texts by the manifest's keys. That of a string is the string itself, all others are values of TOML.
	Settings map[string]string
	GRPC     bool // all calls go over gRPC, also those of a plugin that has lanes
}

// Plugin is a plugin that can be started. Close removes what it has on the disk.
type Plugin struct {
	Manifest *wire.Manifest
	Setup    *daemon.Setup // with this one plugin, enabled for every container

	folder string
	copied string // the binary, under its own name: it may look at that
}

// Open copies the binary to a folder that nobody else may enter, reads its manifest, and checks the settings. What is
// wrong with manifest and settings are config.Problems. The context's log (zerolog) says what takes long.
func Open(ctx context.Context, options Options) (*Plugin, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a plugin's process is started by root alone, in its sandbox: use sudo")
	}
	folder, err := os.MkdirTemp("", "intercede-")
	if err != nil {
		return nil, err
	}
	p := &Plugin{folder: folder, copied: filepath.Join(folder, "bin", filepath.Base(options.Binary))}
	if err := p.open(ctx, options); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Plugin) open(ctx context.Context, options Options) error {
	if err := p.copyBinary(options.Binary); err != nil {
		return err
	}
	var err error
	if p.Manifest, err = launcher.ReadManifest(ctx, launcher.Spec{Path: p.copied}); err != nil {
		message := strings.TrimLeft(strings.TrimPrefix(err.Error(), p.copied), ": ")
		return config.Problems{{File: options.Binary, Message: strings.ReplaceAll(message, p.copied, options.Binary)}}
	}
	text, problems := p.configText(options.Settings)
	if len(problems) > 0 {
		return problems
	}
	path := filepath.Join(p.folder, "config.toml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	if p.Setup, problems = daemon.Load(ctx, path, config.Options{}); len(problems) > 0 {
		return p.explain(problems, options.Binary)
	}
	p.Setup.GRPC = options.GRPC
	return nil
}

// Start starts the plugin and a broker. ctx is for the start alone; the caller closes the engine.
func (p *Plugin) Start(ctx context.Context, log zerolog.Logger) (*daemon.Engine, error) {
	return daemon.Start(ctx, p.Setup, broker.State{}, log)
}

// Close removes the copy.
func (p *Plugin) Close() error { return os.RemoveAll(p.folder) }

// copyBinary copies a regular file that is to be executed.
func (p *Plugin) copyBinary(from string) error {
	source, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for its writer
	if err != nil {
		return fmt.Errorf("plugin binary: %w", err)
	}
	defer source.Close()
	info, err := source.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("plugin binary: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("plugin binary %s: not a regular file", from)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("plugin binary %s: not executable: chmod +x", from)
	}
	if err := checkExecutes(p.folder); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(p.copied), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(p.copied, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	return errors.Join(err, file.Chmod(0o755), file.Close())
}

// checkExecutes refuses a filesystem that programs may not be executed from.
func checkExecutes(folder string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: folder, Err: err}
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return fmt.Errorf("%s is on a filesystem that is mounted noexec: set TMPDIR to a folder of root's on another", folder)
	}
	return nil
}

// configText is a config with the plugin alone. A problem is a setting that is no value of TOML.
func (p *Plugin) configText(settings map[string]string) ([]byte, config.Problems) {
	values := map[string]any{}
	var problems config.Problems
	for key, text := range settings {
		value, err := settingValue(typeOf(p.Manifest, key), text)
		if err != nil {
			problems = append(problems, config.Problem{File: SettingFlag, Key: key, Message: err.Error()})
		}
		values[key] = value
	}
	problems.Sort()
	var out bytes.Buffer
	err := toml.NewEncoder(&out).Encode(map[string]any{"plugins": map[string]any{
		p.Manifest.GetName(): map[string]any{"enabled": true, "path": p.copied, "grant": "manifest", "config": values},
	}})
	if err != nil {
		problems = append(problems, config.Problem{File: SettingFlag, Message: err.Error()})
	}
	return out.Bytes(), problems
}

// SettingFlag stands where a problem of a config has its file.
const SettingFlag = "--set"

// typeOf is a string for keys that the manifest does not have: the config finds out that it has not.
func typeOf(m *wire.Manifest, key string) wire.Setting_Type {
	for _, s := range m.GetSettings() {
		if s.GetKey() == key {
			return s.GetType()
		}
	}
	return wire.Setting_TYPE_STRING
}

func settingValue(kind wire.Setting_Type, text string) (any, error) {
	if kind == wire.Setting_TYPE_STRING {
		return text, nil
	}
	var values map[string]any
	if _, err := toml.Decode("value = "+text, &values); err != nil || len(values) != 1 {
		return nil, fmt.Errorf("%q: want a value as in config.toml, such as true, 7, [\"a\", \"b\"] or { a = \"b\" }", text)
	}
	return values["value"], nil
}

// explain names what the user gave, where the problems name the files that were made of it.
func (p *Plugin) explain(problems config.Problems, binary string) config.Problems {
	prefix := "plugins." + p.Manifest.GetName() + ".config."
	for i := range problems {
		problem := &problems[i]
		problem.File, problem.Line, problem.Column = binary, 0, 0
		if key, ok := strings.CutPrefix(problem.Key, prefix); ok {
			problem.File, problem.Key = SettingFlag, key
		}
		problem.Message = strings.ReplaceAll(problem.Message, p.copied, binary)
	}
	return problems
}
