// Package keep is the descriptor store, in which the descriptors of a broker outlive it: the protocol of systemd's
// (sd_notify(3), sd_listen_fds(3)), and a keeper that speaks it where there is no systemd. While there is no broker,
// the keeper answers for it.
package keep

import (
	"fmt"
	"os"
)

// Descriptor is a descriptor in a store.
type Descriptor struct {
	Name string
	File *os.File
}

const (
	// maxName bounds a name, in bytes, as systemd does (fdname_is_valid, src/basic/fd-util.c).
	maxName = 255
	// firstDescriptor is the first that a process is started with (SD_LISTEN_FDS_START).
	firstDescriptor = 3
)

// checkName refuses names that a store could not hand on: a colon separates the names in LISTEN_FDNAMES.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("the name %.300q of a descriptor has %d bytes: want 1 to %d", name, len(name), maxName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-':
		default:
			return fmt.Errorf("the name %q of a descriptor has the byte %q: want lower-case letters, digits, dots and hyphens", name, c)
		}
	}
	return nil
}

// closeAll closes files.
func closeAll(descriptors []Descriptor) {
	for _, d := range descriptors {
		d.File.Close()
	}
}
