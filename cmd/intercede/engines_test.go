//go:build runtimes

package main

import (
	"os"
	"strings"
	"testing"
)

// engines are scripts that run `try` in a new container through the wrapper, each with what it takes to start the
// engine.
var engines = map[string]struct{ start, try string }{
	"podman": {
		start: "podman import box.tar box",
		try: `podman --runtime /usr/local/bin/intercede-runc run --rm --network=none --cap-add MKNOD \
			--uidmap 0:100000:65536 --gidmap 0:100000:65536 box try`,
	},
	"docker": {
		start: `echo '{"userns-remap": "default", "runtimes": {"intercede": {"path": "/usr/local/bin/intercede-runc"}}}' >/etc/docker/daemon.json
			systemctl restart docker
			docker import box.tar box`,
		try: "docker run --rm --network=none --runtime=intercede box try",
	},
	"ctr": {
		start: `systemctl restart containerd
			chown -R 100000:100000 box
			ids='[{"containerID": 0, "hostID": 100000, "size": 65536}]'
			ctr oci spec | jq ".linux.namespaces += [{\"type\": \"user\"}] | .linux.uidMappings = $ids | .linux.gidMappings = $ids
				| .process.args = [\"/bin/try\"] | .process.env = [\"PATH=/bin\"] | .root.path = \"$PWD/box\" | del(.linux.cgroupsPath)" >box.json`,
		try: "ctr run --rm --config box.json --runc-binary /usr/local/bin/intercede-runc box",
	},
}

// What the wrapper refuses reaches whoever asked the engine for a container, and what the config says of it holds.
func TestEnginesWithoutDaemon(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			// Everything of the first page; then the daemon ends.
			printed := onMachine(t, installed(t)+engine.start+`
				kill %1
				wait %1
				echo === fail
				`+engine.try+` && exit 1
				sed -i 's/^on_missing = "fail"/on_missing = "plain"/' /etc/intercede/config.toml
				echo === plain
				`+engine.try+` && exit 1
				exit 0`)
			_, rest, _ := strings.Cut(printed, "=== fail\n")
			fail, plain, _ := strings.Cut(rest, "=== plain\n")
			wantText(t, fail, "oci_runtime.on_missing", "/run/intercede/control.sock", "intercede serve")
			wantText(t, plain, "mknod: /tmp/zero: Operation not permitted")
		})
	}
}

// A script in the place of the link, and crun in that of runc.
func TestEngineWithCrun(t *testing.T) {
	printed := onMachine(t, installed(t)+engines["podman"].start+`
		printf '#!/bin/sh\nexec intercede oci-runtime --runtime crun -- "$@"\n' >/usr/local/bin/intercede-crun
		chmod 755 /usr/local/bin/intercede-crun
		`+strings.ReplaceAll(engines["podman"].try, runtimeName, "intercede-crun"))
	wantText(t, printed, "made 1:5")
}

// podman and runc in a container: filters on top of ours, with and without a user namespace more, and a listener more.
func TestEngineInContainer(t *testing.T) {
	script, err := os.ReadFile("testdata/nested")
	if err != nil {
		t.Fatal(err)
	}
	printed := onMachine(t, installed(t)+string(script))
	part := func(name string) string { return part(t, printed, name) }
	const filters, refused = "Seccomp_filters:\t2", "mkdir: can't create directory '/tmp/d': No space left on device"
	wantText(t, part("podman"), "made 1:5", filters)
	wantText(t, part("runc"), "made 1:5", filters, refused)
	wantText(t, part("runc, user namespace"), "mknod: /tmp/zero: Operation not permitted", filters, refused)
	wantText(t, part("runc, listener"), "device or resource busy")
}

// What a container of each engine sees of /dev is the same with mount_dev, by whatever options it is made; but nodes
// that were made there can be removed.
func TestEnginesMountDev(t *testing.T) {
	const describe = `
		cat >box/bin/try <<'END'
#!/bin/sh
busybox find /dev | busybox sort | while read file; do stat -c '%N %F %a %u:%g %t:%T' "$file"; done
busybox cut -d ' ' -f 1-4 /proc/mounts | busybox grep ' /dev' | busybox sort
mknod /dev/x c 1 3 && busybox rm /dev/x 2>/dev/null && echo removed
exit 0
END
		tar -C box -cf box.tar .
		mknod -m 666 /tmp/node c 10 229
		chown 100000:100000 /tmp/node
		`
	options := map[string][]string{
		"podman": {"", "--tty", "--read-only", "--systemd=always", "--device /tmp/node", "--volume /dev/zero:/dev/deep/zero", "--tmpfs /dev",
			"--shm-size 1m --ipc=private", "--userns=container:other"},
		"docker": {"", "--tty", "--read-only", "--volume /dev/zero:/dev/deep/zero"},
		"ctr":    {""},
	}
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			script := installed(t) + describe + engine.start + "\n"
			if name == "podman" {
				script += strings.NewReplacer("run --rm", "run --rm --detach --name other", "box try", "box sleep 1000").Replace(engine.try) + "\n"
			}
			for _, option := range options[name] {
				try := strings.Replace(engine.try, "run --rm", "run --rm "+option, 1)
				if strings.HasPrefix(option, "--userns") {
					try = strings.Replace(try, "--uidmap 0:100000:65536 --gidmap 0:100000:65536", "", 1)
				}
				for _, value := range []string{"false", "true"} {
					script += "sed -i 's/^mount_dev = .*/mount_dev = " + value + "/' /etc/intercede/config.toml\n" +
						"echo '=== " + option + " " + value + "'\n" + try + "\n"
				}
			}
			printed := onMachine(t, script+"echo '=== '\n")
			for _, option := range options[name] {
				without, with := part(t, printed, option+" false"), part(t, printed, option+" true")
				want := without + "removed\n"
				if option == "--tmpfs /dev" { // it has no mode: /dev is left to the runtime
					want = without
				}
				wantText(t, without, "/dev/null character special file", "tmpfs /dev tmpfs rw,")
				if with != want {
					t.Errorf("%q: with mount_dev\n%s\nand without\n%s", option, with, without)
				}
			}
		})
	}
}

// part is what was printed after "=== NAME" and before the next of these.
func part(t *testing.T, printed, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(printed, "=== "+name+"\n")
	if !ok {
		t.Fatalf("%s has not run:\n%s", name, printed)
	}
	text, _, _ := strings.Cut(rest, "=== ")
	return strings.ReplaceAll(text, "\r\n", "\n")
}
