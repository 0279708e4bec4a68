package config

import (
	"errors"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Options are what a command line may say about a config.
type Options struct {
	PluginDir string // an absolute path, instead of the file's plugin_dir
}

// Parse reads a config. The file is what problems name, and relative paths in the config are relative to its folder.
// With problems, the Document has the defaults instead of what is wrong, so that policy.Resolve can look for more of
// them; it is nil if the text is not TOML.
func Parse(text, file string, options Options) (*Document, Problems) {
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, Problems{{File: file, Message: err.Error()}}
	}
	// A byte order mark is no part of the text.
	text = strings.TrimPrefix(text, "\ufeff")
	values, meta, problem := decode(text, file)
	if problem != nil {
		return nil, Problems{*problem}
	}
	reader := newReader(file, text, meta)
	root := &table{reader: reader, values: values}
	broker, plugins, ociRuntime := root.table("broker"), root.table("plugins"), root.table("oci_runtime")
	audit := root.table("audit")
	rules := readRules(root)
	root.finish()

	doc := &Document{places: reader.places, Rules: rules, values: values}
	doc.Broker = readBroker(broker, folder, plugins.names())
	if options.PluginDir != "" {
		doc.Broker.PluginDir = options.PluginDir
	}
	doc.OCIRuntime = readOCIRuntime(ociRuntime)
	doc.Audit = readAudit(audit, folder)
	doc.Plugins = readPlugins(plugins, &doc.Broker)
	doc.use()
	doc.Sound = len(reader.problems) == 0
	reader.problems.Sort()
	return doc, reader.problems
}

// decode parses TOML. The problem is the first that its syntax has.
func decode(text, file string) (map[string]any, toml.MetaData, *Problem) {
	where := newPlaces(file, text)
	if !utf8.ValidString(text) {
		problem := where.offsetProblem(invalidUTF8(text), "not UTF-8")
		return nil, toml.MetaData{}, &problem
	}
	values := map[string]any{}
	meta, err := toml.Decode(text, &values)
	if err == nil {
		return values, meta, nil
	}
	problem := Problem{File: file, Message: err.Error()}
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		problem = where.offsetProblem(syntax.Position.Start, "not TOML: "+oneLine(syntax.Message))
	}
	return nil, meta, &problem
}

func invalidUTF8(text string) (offset int) {
	for offset < len(text) {
		r, size := utf8.DecodeRuneInString(text[offset:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		offset += size
	}
	return offset
}

// oneLine escapes the characters of the text that the decoder quotes as they are.
func oneLine(message string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(message)
}
