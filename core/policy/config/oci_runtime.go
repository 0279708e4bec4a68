package config

import (
	"errors"
	"path/filepath"
	"strings"
)

// The values of [OCIRuntime.OnMissing].
const (
	MissingFail  = "fail"  // the container is not created
	MissingPlain = "plain" // it is created without interception
)

// OCIRuntime is the [oci_runtime] table, with its defaults filled in.
type OCIRuntime struct {
	Runtime   string // name or absolute path of the runtime that `intercede oci-runtime` executes
	OnMissing string // what happens to containers while no daemon answers
	MountDev  bool   // it mounts the tmpfs on /dev of containers for which plugins make device nodes
}

// DefaultOCIRuntime is what an empty [oci_runtime] gives.
func DefaultOCIRuntime() OCIRuntime {
	return OCIRuntime{Runtime: "runc", OnMissing: MissingFail}
}

func readOCIRuntime(t *table) OCIRuntime {
	o := DefaultOCIRuntime()
	t.text("runtime", &o.Runtime, CheckOCIRuntime)
	t.oneOf("on_missing", &o.OnMissing, MissingFail, MissingPlain)
	t.bool("mount_dev", &o.MountDev)
	t.finish()
	return o
}

// CheckOCIRuntime accepts what [OCIRuntime.Runtime] may be. A path relative to the working directory is not:
// the engine decides which directory that is.
func CheckOCIRuntime(runtime string) error {
	if err := checkPath(runtime); err != nil {
		return err
	}
	if strings.Contains(runtime, "/") && !filepath.IsAbs(runtime) {
		return errors.New("want a name or an absolute path")
	}
	return nil
}
