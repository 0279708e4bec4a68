package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Plain is a container that was created without interception, since there was no daemon for example.
type Plain struct {
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"` // its folder, which is there as long as the container
	Created time.Time `json:"created"`
	Reason  string    `json:"reason"`
}

// plainFolder is where they are, in the folder of what outlives the daemon.
const plainFolder = "plain"

// NotePlain notes a container that is about to be created without interception.
func NotePlain(folder string, p Plain) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	dir := filepath.Join(folder, plainFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("noting a container without interception: %w", err)
	}
	sum := sha256.Sum256([]byte(p.ID)) // an ID can have any bytes, and more than a name
	if err := replace(filepath.Join(dir, hex.EncodeToString(sum[:16])+suffix), text); err != nil {
		return fmt.Errorf("noting a container without interception: %w", err)
	}
	return nil
}

// ListPlain lists the containers without interception that are still there, the oldest first. Notes of others are
// removed.
func ListPlain(folder string) []Plain {
	files, _ := filepath.Glob(filepath.Join(folder, plainFolder, "*"+suffix)) // fails for bad patterns alone
	var list []Plain
	for _, file := range files {
		var p Plain
		text, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(text, &p) != nil {
			continue
		}
		if _, err := os.Stat(p.Bundle); errors.Is(err, os.ErrNotExist) {
			os.Remove(file)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Plain) int { return a.Created.Compare(b.Created) })
	return list
}
