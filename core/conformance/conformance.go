// Package conformance tests the program of a plugin, in any language, for what every plugin must do, whatever its
// answers mean: it starts in the sandbox with what its manifest asks for, answers each call in time, lives on, leaves
// nothing open, and is refused no system call. Calls go the way that they go in production.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/single"
	"github.com/rs/zerolog"
)

// Status is how a check ended.
type Status string

const (
	OK   Status = "ok"
	Fail Status = "FAIL"
	Skip Status = "skip" // it could not be made
	Warn Status = "warn" // nothing is wrong, but something could be better
)

// Finding is what came of one check.
type Finding struct {
	Status    Status `json:"status"`
	Transport string `json:"transport,omitempty"` // how calls went to the plugin
	Syscall   string `json:"syscall,omitempty"`
	Check     string `json:"check"`
	Text      string `json:"text,omitempty"` // what was found
	Next      string `json:"next,omitempty"` // what to do about it
}

// Options say what is tested.
type Options struct {
	Binary   string
	Settings map[string]string // see single.Options
	Timeout  time.Duration     // the plugin's deadline for a call; 0: as in production
	Log      zerolog.Logger    // the broker's, and what the plugin logs
	Report   func(Finding)     // is called with each finding
}

// Ways in which calls go to a plugin.
const (
	lanes = "lanes"
	grpc  = "grpc"
)

// Run makes all checks. The error says why they could not be made; what a check finds is no error. A caller of Run
// calls run.Init, sandbox.Init and caller.Init in main.
func Run(ctx context.Context, options Options) error {
	report := options.Report
	options.Report = func(f Finding) {
		f.Text = printable(f.Text)
		report(f)
	}
	p, err := single.Open(ctx, single.Options{Binary: options.Binary, Settings: options.Settings})
	var problems config.Problems
	if errors.As(err, &problems) && problems[0].File != single.SettingFlag {
		for _, problem := range problems {
			options.Report(Finding{
				Status: Fail, Check: "manifest", Text: problem.Message,
				Next: "mend the manifest: the launcher refuses it so in production",
			})
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if options.Timeout > 0 {
		p.Setup.Policy.Plugins[0].Timeout = options.Timeout
	}
	reportManifest(p, options.Report)
	for _, transport := range []string{lanes, grpc} {
		p.Setup.GRPC = transport == grpc
		if err := testTransport(ctx, p, transport, options); err != nil {
			return err
		}
	}
	return nil
}

// reportManifest reports what the manifest says, what could be better in it, and which calls the settings switch off.
func reportManifest(p *single.Plugin, report func(Finding)) {
	m := p.Manifest
	var names []string
	for _, s := range m.GetSyscalls() {
		names = append(names, s.GetName())
	}
	text := fmt.Sprintf("%s %s takes %s", m.GetName(), m.GetVersion(), strings.Join(names, ", "))
	if asked := grant.Asked(m); !asked.None() {
		text += "; asks for " + asked.String()
	}
	report(Finding{Status: OK, Check: "manifest", Text: text})
	for _, warning := range lint(m) {
		warning.Status, warning.Check = Warn, "manifest"
		report(warning)
	}
	off := map[string][]string{} // calls by the settings that would switch them on
	for _, s := range m.GetSyscalls() {
		if !takes(p.Setup.Manifests[0], s.GetName()) {
			keys := strings.Join(s.GetIfSettings(), " or ")
			off[keys] = append(off[keys], s.GetName())
		}
	}
	for _, keys := range slices.Sorted(maps.Keys(off)) {
		report(Finding{
			Status: Skip, Check: "all", Text: "the settings switch these off: " + joined(off[keys]),
			Next: "switch them on by " + keys + ", with --set",
		})
	}
}

// maxText bounds the text of a finding, in bytes: a part of it may be the plugin's.
const maxText = 2048

// printable replaces what could do something to a terminal by question marks.
func printable(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
