package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/intercede/intercede/core/ociruntime"
)

// containerRuntime is a program that starts containers.
type containerRuntime struct {
	name         string
	major, minor int      // the first version that can notify; 0.0 if that is its OCI runtime's matter
	notifies     string   // by what its containers are intercepted
	flaw         string   // what is wrong with every version
	server       []string // arguments that have it ask its server for its version; nil: it has none
	oci          bool     // it is an OCI runtime
	waitKillable string   // which versions take SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; empty: that is its OCI runtime's matter
}

var containerRuntimes = []containerRuntime{
	{name: "runc", major: 1, minor: 1, oci: true, notifies: "linux.seccomp.listenerPath of config.json", waitKillable: "runc takes the flag from 1.5 on, with libseccomp 2.6"},
	{name: "crun", major: 0, minor: 19, oci: true, notifies: "linux.seccomp.listenerPath of config.json", waitKillable: "crun takes the flag from 1.6 on"},
	{name: "podman", notifies: "--security-opt seccomp=PROFILE, where its OCI runtime can"},
	{name: "containerd", notifies: "a seccomp profile, where its OCI runtime can"},
	{name: "docker", notifies: "an OCI runtime (dockerd --add-runtime) that adds listenerPath to config.json",
		server: []string{"version", "--format", "{{.Server.Version}}"},
		flaw:   "dockerd may drop listenerPath from a profile, as 20.10 does"},
	{name: "lxc-start", major: 4, minor: 0, notifies: "lxc.seccomp.notify.proxy = unix:PATH, PATH being broker.lxc_socket (4.0.5 or so)",
		waitKillable: "LXC never takes the flag"},
}

// runtimeProbes are for those that are in PATH.
func runtimeProbes() []probe {
	var probes []probe
	for _, r := range containerRuntimes {
		if path, err := exec.LookPath(r.name); err == nil {
			probes = append(probes, probe{
				name:    "runtime " + r.name,
				purpose: "by " + r.notifies,
				without: "its containers can be intercepted by " + r.notifies,
				try:     func(ctx context.Context) (string, error) { return r.try(ctx, path) },
			})
			if r.waitKillable != "" {
				probes = append(probes, r.waitKillableProbe(path))
			}
		}
	}
	if probes == nil {
		probes = []probe{{
			name:    "runtimes",
			without: "only intercede run makes containers here",
			try:     func(context.Context) (string, error) { return "", errors.New("none in PATH") },
		}}
	}
	return probes
}

func (r containerRuntime) try(ctx context.Context, path string) (string, error) {
	text, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return path, fmt.Errorf("--version: %w", err)
	}
	version := versionRule.FindString(string(text))
	found := strings.TrimSpace(version + " " + path)
	if r.server != nil {
		version, err := exec.CommandContext(ctx, path, r.server...).Output()
		if err != nil {
			return found, errors.New("a client alone: no server of it answers here; start the server, or take no notice of this")
		}
		found += ", server " + strings.TrimSpace(string(version))
	}
	if r.flaw != "" {
		return found, errors.New(r.flaw)
	}
	return found, atLeast(version, r.major, r.minor)
}

func (r containerRuntime) waitKillableProbe(path string) probe {
	return probe{
		name:    "WAIT_KILLABLE_RECV of " + r.name,
		purpose: "signals do not interrupt calls of its containers that were received",
		without: "in its containers " + interrupts + r.waitKillable,
		try: func(ctx context.Context) (string, error) {
			if !r.oci || !ociruntime.TakesWaitKillable(ctx, path) {
				return "", errors.New("not taken")
			}
			return "taken", nil
		},
	}
}

var versionRule = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// atLeast compares the first two numbers of a version.
func atLeast(version string, major, minor int) error {
	parts := strings.SplitN(versionRule.FindString(version), ".", 3)
	if len(parts) < 2 {
		return fmt.Errorf("%q is no version", version)
	}
	haveMajor, errMajor := strconv.Atoi(parts[0])
	haveMinor, errMinor := strconv.Atoi(parts[1])
	if err := errors.Join(errMajor, errMinor); err != nil {
		return err
	}
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		return fmt.Errorf("older than %d.%d: update it", major, minor)
	}
	return nil
}
