package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
)

const ruled = `[plugins.sysinfo]
[plugins.mknod]
enabled = false

[[container]]
match = { runtime = "oci", name = "build-*" }
plugins.mknod.enabled = true

[[container]]
match.peer_uid = 0
plugins.sysinfo.config.loads = "container"
accept_annotations = ["security.syscalls.intercept.mknod"]
`

// explained is the text of `policy explain`, with CONFIG for the config's path.
func (s *site) explained(t *testing.T, args ...string) string {
	t.Helper()
	text := mustRun(t, program(append([]string{"policy", "explain", "--config", s.config()}, args...)...))
	return strings.ReplaceAll(text, s.config(), "CONFIG")
}

func TestPolicyExplainDescribed(t *testing.T) {
	s := newSite(t, ruled)
	text := s.explained(t, "--id", "x", "--name", "build-7", "--annotation", "io.kubernetes.cri.image-name=nginx",
		"--peer-uid", "0", "--cgroup", "/a", "--cgroup", "/b",
		"--annotation", "security.syscalls.intercept.mknod=\x1b[31m")
	wantRows(t, text, `
		id x
		runtime oci
		name build-7
		image nginx
		peer_uid 0
		cgroup /a /b
		cookie -

		RULE MATCHES
		CONFIG:12 yes
		CONFIG:16 yes

		PLUGIN SETTING VALUE FROM
		mknod enabled true CONFIG:14: container[0].plugins.mknod.enabled
		mknod devices ["b 0:0","c 0:0","c 5:1","c 5:2","c 1:7","c 1:3","c 1:8","c 5:0","c 1:9","c 1:5"] default
		mknod max_covers 1024 default
		mknod require_device_cgroup true default
		sysinfo enabled true CONFIG:6: plugins.sysinfo
		sysinfo loads "container" CONFIG:18: container[1].plugins.sysinfo.config.loads
		sysinfo uptime "host" default

		IGNORED ANNOTATION WHY
		security.syscalls.intercept.mknod "\x1b[31m": want true or false`)

	text = s.explained(t, "--runtime", "lxc", "--cookie", "\x1b[2J")
	wantRows(t, text, `
		id -
		runtime lxc
		name -
		image -
		peer_uid -
		cgroup -
		cookie \u001b[2J

		RULE MATCHES
		CONFIG:12 no: runtime "lxc" is not "oci"
		CONFIG:16 no: no peer_uid

		PLUGIN SETTING VALUE FROM
		mknod enabled false CONFIG:10: plugins.mknod.enabled
		sysinfo enabled true CONFIG:6: plugins.sysinfo
		sysinfo loads "host" default
		sysinfo uptime "host" default`)
}

// A plugin that refuses what annotations make of its settings is served without them: explain asks it.
func TestPolicyExplainRefused(t *testing.T) {
	s := newSite(t, `[plugins.mount.config]
allowed = ["ext4", "ext2"]
shift = true
devices = ["7:*"]
options = { ext4 = "lifetime" }

[[container]]
accept_annotations = ["security.syscalls.intercept.mount.allowed", "security.syscalls.intercept.mount.fuse"]
`)
	text := s.explained(t, "--id", "x", "--annotation", "security.syscalls.intercept.mount.allowed=tmpfs")
	wantText(t, text, `["ext4","ext2"]`, "IGNORED ANNOTATION", `allowed: "tmpfs" has no block device`)

	// ext2 with shift would be mounted by the driver of ext4: it goes with it.
	text = s.explained(t, "--id", "x", "--annotation", "security.syscalls.intercept.mount.fuse=ext4=fuse2fs")
	wantText(t, text, `["ext2"]`, `{"ext4":"fuse2fs"}`)
	if strings.Contains(text, "IGNORED") {
		t.Errorf("an annotation is ignored:\n%s", text)
	}

	// Options of what is not allowed any more go with it.
	text = s.explained(t, "--id", "x", "--annotation", "security.syscalls.intercept.mount.allowed=xfs,btrfs")
	wantText(t, text, `["xfs","btrfs"]`)
	if strings.Contains(text, "IGNORED") || strings.Contains(text, "lifetime") {
		t.Errorf("the options are still there:\n%s", text)
	}
}

// wantRows compares text, but for how far its columns are apart.
func wantRows(t *testing.T, text, want string) {
	t.Helper()
	rows := func(text string) (rows string) {
		for line := range strings.Lines(strings.TrimSpace(text)) {
			rows += strings.Join(strings.Fields(line), " ") + "\n"
		}
		return rows
	}
	if got, want := rows(text), rows(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPolicyExplainAttached(t *testing.T) {
	s := newSite(t, ruled)
	s.serve(t)
	m := s.startMaker(t, "--annotation", "security.syscalls.intercept.mknod=true")
	m.want(t, "made")
	other := s.startMaker(t)
	other.want(t, "not permitted")
	attached := s.status(t).Containers
	if len(attached) != 2 {
		t.Fatalf("status %+v", attached)
	}
	id := attached[0].ID

	s.write(t, "[plugins.mknod]\nenabled = false\n") // the daemon is not told, and what the container got stays
	text := s.explained(t, id[:len(id)-1])
	wantText(t, text, id, "annotation security.syscalls.intercept.mknod, accepted by CONFIG:19", `"container"`)

	var policies []broker.ContainerPolicy
	if err := json.Unmarshal([]byte(s.explained(t, attached[1].ID, "--json")), &policies); err != nil {
		t.Fatal(err)
	}
	if len(policies) != 1 || policies[0].Description.ID != attached[1].ID || policies[0].Plugin("mknod") != nil ||
		policies[0].Plugin("sysinfo") == nil ||
		policies[0].Description.PeerUID == nil || *policies[0].Description.PeerUID != 0 || len(policies[0].Description.Cgroups) == 0 {
		t.Errorf("policies %+v", policies)
	}

	r := intercede(t, "policy", "explain", "nobody", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, `no container "nobody"`, "intercede status")
}

// Rules decide in a broker of the container's own too.
func TestRunWithRules(t *testing.T) {
	s := newSite(t, `
[plugins.mknod]
enabled = false
[[container]]
match = { runtime = "run", name = "box" }
plugins.mknod.enabled = true
`)
	const command = "rm -f /tmp/zero; mknod /tmp/zero c 1 5 2>&1 && echo made"
	wantText(t, mustRun(t, program("run", "--config", s.config(), "--name", "box", "--", "sh", "-c", command)), "made")
	wantText(t, intercede(t, "run", "--config", s.config(), "--name", "bin", "--", "sh", "-c", command).stdout, "not permitted")
}
