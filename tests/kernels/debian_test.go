package kernels

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
)

// packages are what a machine has beside its kernel: what containers need, and a C compiler for sdktest's caller.
const packages = "initramfs-tools zstd systemd-sysv udev dbus kmod libseccomp2 runc crun podman jq busybox-static attr rsync e2fsprogs " +
	"fuse2fs squashfs-tools squashfuse ntfs-3g toybox procps uidmap iproute2 mount util-linux gcc libc6-dev perl-base"

// system is an installation: a disk, and the kernel that boots it.
type system struct {
	machine              processor
	disk, kernel, initrd string
}

// diskSize is more than an installation needs; the file has holes.
const diskSize = 4 << 30

// install installs the machine in a folder, unless it is there.
func (m debian) install(t *testing.T, dir string) system {
	t.Helper()
	s := system{m.machine, filepath.Join(dir, "disk"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}
	if exists(s.initrd) {
		return s
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if m.small {
		m.unpack(t, s, root)
		return s
	}
	debootstrap(t, append([]string{"--mode=root", "--variant=minbase", "--include=" + m.include(packages),
		`--aptopt=APT::Install-Recommends "false"`, "--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=force-unsafe-io",
	}, m.sources(t, root)...)...)
	m.finish(t, root)
	makeDisk(t, s.disk, root, diskSize)
	move(t, filepath.Join(root, "boot/vmlinuz-*"), s.kernel)
	move(t, filepath.Join(root, "boot/initrd.img-*"), s.initrd)
	return s
}

// finish has the machine run the tests when it has booted, and do nothing else.
func (m debian) finish(t *testing.T, root string) {
	t.Helper()
	const unit = "intercede-tests.service"
	text, err := os.ReadFile(filepath.Join("testdata", unit))
	if err != nil {
		t.Fatal(err)
	}
	units := filepath.Join(root, "etc/systemd/system")
	if err := os.WriteFile(filepath.Join(units, unit), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "payload"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "chroot", root, "systemctl", "--root=/", "enable", unit)
	run(t, "chroot", root, "systemctl", "--root=/", "mask",
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
		"fstrim.timer", "getty@tty1.service", "systemd-timesyncd.service",
		"serial-getty@"+m.machine.console+".service", "ldconfig.service", "systemd-hwdb-update.service")
}

// mirror is where this machine has Debian's packages of a suite from.
func mirror(t *testing.T, suite string) string {
	t.Helper()
	for _, site := range strings.Fields(run(t, "apt-get", "indextargets", "--format", "$(SITE)")) {
		security := strings.HasSuffix(strings.TrimRight(site, "/"), "debian-security")
		if security == strings.HasSuffix(suite, "-security") && strings.Contains(site, "debian") {
			return site
		}
	}
	t.Fatalf("apt has no mirror of Debian for %s: want one in /etc/apt/sources.list or /etc/apt/sources.list.d", suite)
	return ""
}

// makeDisk makes an ext4 filesystem of a folder.
func makeDisk(t *testing.T, disk, root string, size int64) {
	t.Helper()
	file, err := os.Create(disk)
	if err == nil {
		err = file.Truncate(size)
		file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", root, disk)
}

func move(t *testing.T, pattern, to string) {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	if err := os.Rename(found[0], to); err != nil {
		t.Fatal(err)
	}
}

// need skips the test, or fails it where all must run, without these programs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			require.Lacking(t, "%s is not installed: run scripts/install-packages vm", p)
		}
	}
}

// run runs a program, and gives what it printed.
func run(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	output, err := tryRun(name, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// tryRun is run for a program that may fail: the error has what it printed.
func tryRun(name string, arguments ...string) (string, error) {
	command := exec.Command(name, arguments...)
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", command, err, output, problems.String())
	}
	return string(output), nil
}

// debootstrap runs mmdebstrap, which needs a mirror of Debian.
func debootstrap(t *testing.T, arguments ...string) {
	t.Helper()
	if _, err := tryRun("mmdebstrap", arguments...); err != nil {
		t.Fatalf("%v\nIf a mirror did not answer: the mirrors are those of this machine's apt. Have `apt-get update` pass, then run this "+
			"again. A folder KERNELS_DIR that has the machines of an earlier run needs no mirror.", err)
	}
}
