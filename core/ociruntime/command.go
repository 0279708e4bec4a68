package ociruntime

import (
	"path/filepath"
	"slices"
	"strings"
)

// command is what the wrapper needs to know of a runtime's command line.
type command struct {
	name      string // "create", "run" ...; empty: there is none
	bundle    string // of create and run; empty: the working directory
	config    string // of create and run, crun's --config: a file instead of the bundle's config.json
	id        string // of create and run
	logTo     string // as --log has it
	logFormat string // likewise
}

// commands are those of runc 1.1 to 1.3 and crun 1.8 to 1.20. They end an unknown option: its next word is its value if
// it is none of them.
var commands = []string{
	"checkpoint", "create", "delete", "events", "exec", "features", "help", "init", "kill", "list", "mounts", "pause", "ps",
	"restore", "resume", "run", "spec", "start", "state", "update", "version",
}

// The options of runc and crun, without their dashes. Those not listed have no value of their own word.
var (
	globalValues = []string{"cgroup-manager", "criu", "log", "log-format", "root", "rootless"}
	globalFlags  = []string{"debug", "help", "h", "systemd-cgroup", "version", "v", "V"}
	createValues = []string{"b", "bundle", "config", "console-socket", "f", "pid-file", "preserve-fds"}
)

// parse reads a command line as runc (urfave/cli, where -bundle is --bundle) and crun (argp, where -bDIR is -b DIR) do:
// the first word that is neither an option nor the value of one is the command; the options of a command may stand
// before and after its operand; of options that are there twice the last counts.
func parse(args []string) command {
	var c command
	for len(args) > 0 && c.name == "" {
		word := args[0]
		args = args[1:]
		if word == "--" || !isOption(word) {
			if word == "--" && len(args) > 0 {
				word, args = args[0], args[1:]
			}
			c.name = word
			break
		}
		name, value, joined := splitOption(word, nil)
		if !joined && len(args) > 0 && globalTakes(name, args[0]) {
			value, args = args[0], args[1:]
		}
		switch name {
		case "log":
			c.logTo = value
		case "log-format":
			c.logFormat = value
		}
	}
	if c.creates() {
		c.parseCreate(args)
	}
	return c
}

// creates reports whether the command creates a container from a bundle. restore does not load a filter of the bundle:
// it is in the checkpoint.
func (c *command) creates() bool { return c.name == "create" || c.name == "run" }

// globalTakes reports whether the next word is the value of the option before the command.
func globalTakes(name, next string) bool {
	switch {
	case slices.Contains(globalValues, name):
		return true
	case slices.Contains(globalFlags, name) || isOption(next) || next == "--":
		return false
	default:
		return !slices.Contains(commands, next)
	}
}

func (c *command) parseCreate(args []string) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			if len(args) > 0 {
				c.id = args[len(args)-1]
			}
			return
		}
		if !isOption(word) {
			c.id = word
			continue
		}
		name, value, joined := splitOption(word, createValues)
		if !joined && len(args) > 0 && slices.Contains(createValues, name) {
			value, args = args[0], args[1:]
		}
		switch name {
		case "b", "bundle":
			c.bundle = value
		case "f", "config":
			c.config = value
		}
	}
}

// isOption: a single dash is a word.
func isOption(word string) bool { return len(word) > 1 && word[0] == '-' }

// splitOption splits "--name=value", "-name=value", and "-nvalue" where n is among values and nothing longer is. joined
// says that the value was in the word.
func splitOption(word string, values []string) (name, value string, joined bool) {
	long := strings.HasPrefix(word, "--")
	name, value, joined = strings.Cut(strings.TrimLeft(word[:2], "-")+word[2:], "=")
	if !long && !slices.Contains(values, name) && len(name) > 1 && slices.Contains(values, name[:1]) {
		return word[1:2], word[2:], true
	}
	return name, value, joined
}

// configPath is the file that the runtime reads, relative to the working directory.
func (c *command) configPath() string {
	if c.config != "" {
		return c.config
	}
	return filepath.Join(c.bundle, "config.json")
}

// inBundle is a path of config.json, which may be relative to the bundle.
func (c *command) inBundle(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.bundle, path)
}
