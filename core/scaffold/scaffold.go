// Package scaffold writes the files of a new plugin, in a folder of its own: a handler, a test that makes real calls, a
// page in the sections that every plugin's page has, and what builds it.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/template"

	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/proto"
)

//go:embed all:templates
var templates embed.FS

// Languages are those that there are templates for.
var Languages = []string{"go", "python", "c"}

// Options say what to write.
type Options struct {
	Name     string // of the plugin, and of the folder
	Syscall  string // that it takes, by the kernel's name
	Language string // one of Languages
	// Version is that of the SDK, which a module of Go is to require; empty: it cannot be fetched, and Checkout is
	// needed.
	Version string
	// Checkout is a folder with the project's sources to build a module of Go against instead, by a go.work; empty:
	// none.
	Checkout string
}

// Check says why there can be no such plugin.
func (o Options) Check() error {
	if err := wire.CheckPluginName(o.Name); err != nil {
		return err
	}
	if !slices.Contains(Languages, o.Language) {
		return fmt.Errorf("language %q: want one of %s", o.Language, strings.Join(Languages, ", "))
	}
	if !o.isModule() && o.Checkout != "" {
		return fmt.Errorf("sources of the SDK: it is for Go, not for %s", o.Language)
	}
	manifest := o.manifest()
	if err := wire.CheckManifest(manifest); err != nil {
		return err
	}
	_, err := filter.Program([]*wire.Manifest{manifest}, run.ReservedSyscalls())
	return err
}

// isModule reports whether the plugin is a module of Go. There is no library for gRPC in C, by which plugins in other
// languages are called: a plugin in C is a module that calls C (cgo).
func (o Options) isModule() bool { return o.Language == "go" || o.Language == "c" }

// folders are those of the templates, of which later ones have other contents for files of earlier ones.
func (o Options) folders() []string {
	if o.Language == "c" {
		return []string{"go", "c"}
	}
	return []string{o.Language}
}

// manifest is what there is of the plugin's own for this.
func (o Options) manifest() *wire.Manifest {
	s := &wire.Syscall{Name: o.Syscall}
	if _, multiplexed := wire.MultiplexerOf(o.Syscall); multiplexed {
		s.Compat = wire.Compat_COMPAT_CONTINUE
	}
	return &wire.Manifest{
		Name: o.Name, Version: "0", Syscalls: []*wire.Syscall{s},
		OnFailure: &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}},
	}
}

// Write makes the folder dir, which must not be there, with the plugin in it. If that fails, nothing is left.
func Write(dir string, o Options) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	words, err := o.words()
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and nothing was changed: remove it, or choose another name", dir)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for _, folder := range o.folders() {
		if err := writeFolder(dir, path.Join("templates", folder), words); err != nil {
			return err
		}
	}
	return nil
}

func writeFolder(dir, root string, words *words) error {
	return fs.WalkDir(templates, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		to := filepath.Join(dir, strings.TrimSuffix(strings.TrimPrefix(name, root+"/"), ".tmpl"))
		if entry.IsDir() {
			return os.Mkdir(to, 0o755)
		}
		return writeFile(to, name, words)
	})
}

// writeFile writes a template with its words. One that comes out empty is not for this plugin.
func writeFile(to, name string, words *words) error {
	text, err := templates.ReadFile(name)
	if err != nil {
		return err
	}
	t, err := template.New(name).Parse(string(text))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, words); err != nil || out.Len() == 0 {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

// words stand in the templates.
type words struct {
	Name, Syscall string
	// Marked: the caller of the test makes the call too. The plugin is to take those alone that have a certain first
	// argument.
	Marked bool
	// Narrow: only 32-bit programs can make it.
	Narrow bool
	// Multiplexed: only 64-bit programs' calls can be taken (sdk.Compat).
	Multiplexed bool

	// For Go: the version that the module requires the SDK at, and the absolute path of a checkout, if there is one.
	Version, Checkout string
	// For other languages: the call's number on the machine's architecture, and plugin.proto.
	Number         int32
	Arch, Contract string
}

func (o Options) words() (*words, error) {
	w := &words{Name: o.Name, Syscall: o.Syscall, Marked: slices.Contains(everyProgram, o.Syscall)}
	_, w.Multiplexed = wire.MultiplexerOf(o.Syscall)
	number, native := filter.Number(o.Syscall)
	w.Narrow = !native
	if o.isModule() {
		return w, w.requireSDK(o)
	}
	w.Marked = w.Marked || slices.Contains(everyPython, o.Syscall)
	w.Number, w.Arch, w.Contract = number, runtime.GOARCH, proto.Plugin
	if w.Narrow {
		return nil, fmt.Errorf("syscall %s: only 32-bit programs make it, which the test of a plugin in %s is not", o.Syscall, o.Language)
	}
	return w, nil
}

func (w *words) requireSDK(o Options) (err error) {
	if o.Checkout == "" && o.Version == "" {
		return errors.New("this intercede is not a release, so that the version of its SDK cannot be fetched: " +
			"say with --sdk where its sources are")
	}
	w.Version = o.Version
	if o.Checkout == "" {
		return nil
	}
	if w.Checkout, err = filepath.Abs(o.Checkout); err != nil {
		return err
	}
	w.Version, err = checkoutVersion(w.Checkout)
	return err
}

var requiresInternal = regexp.MustCompile(`(?m)^\s*github\.com/intercede/intercede/internal (v\S+)$`)

// checkoutVersion is the version at which the modules of the project's sources require each other.
func checkoutVersion(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "sdk", "go.mod"))
	if err != nil {
		return "", fmt.Errorf("no sources of intercede: %w", err)
	}
	found := requiresInternal.FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("no sources of intercede: %s/sdk/go.mod is not that of its SDK", dir)
	}
	return string(found[1]), nil
}
