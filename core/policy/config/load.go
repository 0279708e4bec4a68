package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
)

// maxSize is the largest config file, in bytes.
const maxSize = 1 << 20

// Load reads and parses the config file at path; see [Parse]. A file that cannot be read, is larger than 1 MiB, or
// that others than root and this process's user may write or replace, is a problem: whoever writes it decides what
// runs as root.
func Load(path string, options Options) (*Document, Problems) {
	text, faults := readFile(path)
	var problems Problems
	for _, err := range faults {
		problems = append(problems, Problem{File: path, Message: err.Error()})
	}
	if len(faults) > 0 && text == "" {
		return nil, problems
	}
	doc, more := Parse(text, path, options)
	if doc != nil {
		sum := sha256.Sum256([]byte(text))
		doc.SHA256 = hex.EncodeToString(sum[:])
	}
	return doc, append(problems, more...)
}

// readFile returns the text along with the faults if who may change the file is all that is wrong.
func readFile(path string) (string, []error) {
	text, info, err := linux.ReadRegular(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", []error{errors.New("there is no such file: name the config file with --config")}
	}
	if err != nil {
		return "", []error{fmt.Errorf("cannot be read: %w", err)}
	}
	var faults []error
	for _, err := range []error{checkMode(info.Mode(), path), checkOwner(info, path), checkFolders(path)} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	return string(text), faults
}

func checkMode(mode fs.FileMode, path string) error {
	if mode.Perm()&0o022 == 0 {
		return nil
	}
	return fmt.Errorf("mode %04o lets others than its owner decide what runs as root: chmod go-w %s", mode.Perm(), path)
}

func checkOwner(info fs.FileInfo, path string) error {
	owner := info.Sys().(*syscall.Stat_t).Uid
	if linux.IsOwner(owner) {
		return nil
	}
	return fmt.Errorf("it belongs to user %d, who decides by it what runs as root: chown root %s", owner, path)
}

// checkFolders checks who could put another file in the place of the config.
func checkFolders(path string) error {
	if err := linux.CheckFolders(path); err != nil {
		return fmt.Errorf("others than root can replace it, and decide what runs as root: %w; or move it to /etc/intercede", err)
	}
	return nil
}
