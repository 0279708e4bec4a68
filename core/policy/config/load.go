package config

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/intercede/intercede/internal/linux"
)

// maxSize is the largest config file, in bytes.
const maxSize = 1 << 20

// Load reads and parses the config file at path; see [Parse]. A file that cannot be read, is larger than 1 MiB, or
// that its group or others may write is a problem: whoever writes it decides what runs as root.
func Load(path string, options Options) (*Document, Problems) {
	text, err := readFile(path)
	if err != nil && text == "" {
		return nil, Problems{{File: path, Message: err.Error()}}
	}
	doc, problems := Parse(text, path, options)
	if err != nil {
		problems = append(Problems{{File: path, Message: err.Error()}}, problems...)
	}
	return doc, problems
}

// readFile returns the text along with the error if the file's mode is all that is wrong.
func readFile(path string) (string, error) {
	text, info, err := linux.ReadRegular(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("there is no such file: name the config file with --config")
	}
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	return string(text), checkMode(info.Mode(), path)
}

func checkMode(mode fs.FileMode, path string) error {
	if mode.Perm()&0o022 == 0 {
		return nil
	}
	return fmt.Errorf("mode %04o lets others than its owner decide what runs as root: chmod go-w %s", mode.Perm(), path)
}
