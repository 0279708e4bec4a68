package ociruntime

import (
	"context"
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/intercede/intercede/internal/notify"
)

// waitKillable keeps a caller in a call that the broker has received, unless a signal kills it. Without the flag the
// caller leaves the call for the signal's handler, and the call that the kernel restarts is performed once more.
const waitKillable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"

// askTimeout bounds what a runtime is asked, which takes it some milliseconds.
const askTimeout = 5 * time.Second

// features are what is read of the output of `RUNTIME features`.
type features struct {
	Linux struct {
		Seccomp struct {
			SupportedFlags []string `json:"supportedFlags"`
		} `json:"seccomp"`
	} `json:"linux"`
	Annotations map[string]json.RawMessage `json:"annotations"` // crun 1.8.6 has values there that are not strings
}

// TakesWaitKillable reports whether the OCI runtime at path, and the kernel, take waitKillable in linux.seccomp.flags.
// It reports false where that cannot be found out, since a runtime refuses a container with a flag that it does not
// take.
func TakesWaitKillable(ctx context.Context, path string) bool {
	if notify.CheckWaitKillable() != nil {
		return false
	}
	text, err := ask(ctx, path, "features")
	if err == nil {
		return featuresHaveWaitKillable(text)
	}
	text, err = ask(ctx, path, "--version")
	return err == nil && crunHasWaitKillable(text)
}

func ask(ctx context.Context, path, question string) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, question)
	cmd.WaitDelay = time.Second // a process that it started may keep its standard output
	return cmd.Output()
}

// featuresHaveWaitKillable reads the output of `RUNTIME features`. crun lists no flags there (as of 1.29), but its
// name; it has taken the flag since before it had that command (1.8.6).
func featuresHaveWaitKillable(text []byte) bool {
	var f features
	if json.Unmarshal(text, &f) != nil {
		return false
	}
	_, isCrun := f.Annotations["run.oci.crun.version"]
	return isCrun || slices.Contains(f.Linux.Seccomp.SupportedFlags, waitKillable)
}

var crunVersion = regexp.MustCompile(`^crun version (\d+)\.(\d+)`)

// crunHasWaitKillable reads the output of `RUNTIME --version`: crun has taken the flag since 1.6.
func crunHasWaitKillable(text []byte) bool {
	match := crunVersion.FindSubmatch(text)
	if match == nil {
		return false
	}
	major, _ := strconv.Atoi(string(match[1]))
	minor, _ := strconv.Atoi(string(match[2]))
	return major > 1 || major == 1 && minor >= 6
}
