package kernels

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallPackages are what a small machine has beside its kernel: the shell of its first process, what tests call, and
// a C compiler.
const smallPackages = "base-files base-passwd bash dash coreutils util-linux bsdutils mount grep sed mawk findutils tar hostname " +
	"libc-bin dpkg procps kmod busybox-static attr rsync e2fsprogs fuse2fs squashfs-tools uidmap iproute2 libseccomp2 " +
	"squashfuse ntfs-3g toybox gcc libc6-dev perl-base"

// directories are links to those in /usr.
const directories = `for d in bin lib lib64 sbin; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done`

// unpack makes a small machine in a folder: packages that nobody has configured, for which none of its programs is
// executed.
func (m debian) unpack(t *testing.T, s system, root string) {
	t.Helper()
	debootstrap(t, append([]string{"--mode=root", "--variant=extract", "--architectures=" + m.machine.arch,
		"--setup-hook=" + directories, "--include=" + m.include(smallPackages)}, m.sources(t, root)...)...)
	// As maintainers' scripts do.
	for link, to := range map[string]string{"usr/bin/sh": "dash", "usr/bin/awk": "mawk"} {
		if path := filepath.Join(root, link); !exists(path) {
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"passwd", "group"} {
		run(t, "cp", filepath.Join(root, "usr/share/base-passwd", name+".master"), filepath.Join(root, "etc", name))
	}
	run(t, "mkdir", "-p", filepath.Join(root, "payload"))
	initrd := s.initrd + ".new" // its own name is the last file of an installation
	run(t, "sh", "testdata/initrd.sh", root, initrd)
	kernel := "boot/vmlinu*"
	if found, _ := filepath.Glob(filepath.Join(root, kernel)); len(found) == 0 {
		kernel = "usr/lib/modules/*/vmlinu*" // since 7.0, from where the package copies it
	}
	move(t, filepath.Join(root, kernel), s.kernel)
	makeDisk(t, s.disk, root, diskSize)
	move(t, initrd, s.initrd)
}

// include are packages, those of the processor and the kernel, as mmdebstrap takes them.
func (m debian) include(packages string) string {
	return strings.Join(strings.Fields(packages+" "+m.machine.packages+" "+m.image), ",")
}

// sources are the arguments of mmdebstrap that say what is installed where, and from where.
func (m debian) sources(t *testing.T, root string) []string {
	t.Helper()
	arguments := []string{m.suite, root}
	for _, suite := range strings.Fields(m.suite + " " + m.also) {
		arguments = append(arguments, "deb "+mirror(t, suite)+" "+suite+" main")
	}
	return arguments
}
