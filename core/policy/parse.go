package policy

import (
	"errors"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

// Options are what a command line may say about a config.
type Options struct {
	PluginDir string // an absolute path, in the place of the file's plugin_dir
}

// Config is a config whose plugin settings have not been held against the manifests yet.
type Config struct {
	Broker     Broker
	OCIRuntime OCIRuntime
	Plugins    []PluginConfig // by name: those with a [plugins.NAME], and those that only a rule switches on

	rules  []rule
	places *places
	sound  bool // Parse found no problems
}

// PluginConfig is a [plugins.NAME] table, or its defaults.
type PluginConfig struct {
	Name      string
	Enabled   bool          // where no rule says otherwise
	Used      bool          // some container may have it: it is enabled, or a rule or an annotation can enable it
	Path      string        // absolute
	SHA256    string        // 64 lower-case hex digits; empty: not pinned
	Timeout   time.Duration // the broker's deadline where the table has none
	OnFailure *wire.Verdict // nil: the manifest's

	path     toml.Key       // where the config first wants it
	settings map[string]any // as toml.Decode gives them
}

// Parse reads a config. The file is what problems name, and relative paths in the config are relative to its folder. With
// problems, the Config has the defaults in the place of what is wrong, so that [Resolve] can look for more problems; it is
// nil if the text is not TOML.
func Parse(text, file string, options Options) (*Config, Problems) {
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
	doc := newDocument(file, text, meta)
	root := &table{doc: doc, values: values}
	broker, plugins, ociRuntime := root.table("broker"), root.table("plugins"), root.table("oci_runtime")
	rules := readRules(root)
	root.finish()

	config := &Config{places: doc.places, rules: rules}
	config.Broker = readBroker(broker, folder, plugins.names())
	if options.PluginDir != "" {
		config.Broker.PluginDir = options.PluginDir
	}
	config.OCIRuntime = readOCIRuntime(ociRuntime)
	config.Plugins = readPlugins(plugins, &config.Broker)
	config.use()
	config.sound = len(doc.problems) == 0
	doc.problems.sort()
	return config, doc.problems
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
