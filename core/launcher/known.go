package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// KnownManifests are what programs of plugins have printed, kept in a folder for the next daemon: while it starts, the
// calls of containers wait, and running each program to ask for its manifest is half of that time.
//
// A wrong one does no harm. The plugin gets no more than the operator has granted, whatever its manifest says, and one
// that has another manifest when it runs does not serve: see process.compareManifest. Forget is called then.
type KnownManifests struct {
	folder string // empty: nothing is kept
}

const (
	// maxKnown bounds what is read, in bytes: a manifest of at most 1 MiB, as JSON.
	maxKnown = 8 << 20
	// settledAfter is how long a file has not been changed, so that a change to come has another time: the kernel's are
	// as coarse as a tick (ktime_get_coarse_real_ts64).
	settledAfter = time.Second
)

// KnownIn are those in a folder below the daemon's own, which it makes.
func KnownIn(folder string) KnownManifests {
	return KnownManifests{filepath.Join(folder, "manifests")}
}

// known is one file: the program that was asked, and what it printed.
type known struct {
	Path    string  `json:"path"`
	Program program `json:"program"`
	Printed []byte  `json:"printed"`
}

// program tells a file from another, and from itself after a change (stat(2)).
type program struct {
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // ns since 1970, as Changed
	Changed  int64  `json:"changed"`
}

// Read returns the manifest that is kept of this very program, or else is ReadManifest, and keeps what that reads. A
// script is always asked: its interpreter may have changed.
func (k KnownManifests) Read(ctx context.Context, spec Spec) (*wire.Manifest, error) {
	manifest, err := k.read(ctx, spec)
	if err != nil && spec.Name != "" {
		err = fmt.Errorf("plugin %s: %w", spec.Name, err)
	}
	return manifest, err
}

func (k KnownManifests) read(ctx context.Context, spec Spec) (*wire.Manifest, error) {
	binary, err := openBinary(spec.Path, spec.SHA256)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	is, settled := identify(binary)
	if settled {
		if text := k.find(spec, is); text != nil {
			if manifest, err := parseManifest(text, spec); err == nil {
				return manifest, nil
			}
		}
	}
	text, err := runManifest(ctx, spec, binary)
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(text, spec)
	if err == nil && settled {
		k.keep(spec, known{spec.Path, is, text})
	}
	return manifest, err
}

// Forget removes all of them.
func (k KnownManifests) Forget() error {
	if k.folder == "" {
		return nil
	}
	return os.RemoveAll(k.folder)
}

// identify reports besides whether a later change of the file is sure to be seen.
func identify(b *binary) (is program, settled bool) {
	var st unix.Stat_t
	if b.script != nil || unix.Fstat(int(b.Fd()), &st) != nil {
		return program{}, false
	}
	changed := time.Unix(st.Ctim.Unix())
	return program{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), changed.UnixNano()}, time.Since(changed) > settledAfter
}

// find returns what the program has printed; nil: that is not known.
func (k KnownManifests) find(spec Spec, is program) []byte {
	if k.folder == "" {
		return nil
	}
	file, err := os.OpenFile(k.file(spec), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	if linux.CheckOwner(file.Fd()) != nil {
		return nil
	}
	var found known
	if json.NewDecoder(io.LimitReader(file, maxKnown)).Decode(&found) != nil || found.Path != spec.Path || found.Program != is {
		return nil
	}
	return found.Printed
}

// keep fails where there is no folder for it yet: the next daemon then asks again.
func (k KnownManifests) keep(spec Spec, found known) {
	if k.folder == "" {
		return
	}
	text, err := json.Marshal(found)
	if err != nil {
		return
	}
	unix.Mkdir(k.folder, 0o700)
	next := k.file(spec) + ".new"
	if os.WriteFile(next, text, 0o600) == nil {
		os.Rename(next, k.file(spec))
	}
}

func (k KnownManifests) file(spec Spec) string {
	return filepath.Join(k.folder, filepath.Base(spec.Path)+".json")
}
