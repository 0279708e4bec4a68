package kernels

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// processor is the processor of a machine, and what comes with it.
type processor struct {
	arch     string   // as Debian and Go name it
	triplet  string   // as its compiler is named
	qemu     []string // the program that emulates it, with the arguments that it alone has
	console  string
	packages string // those that Debian has for it alone
}

var (
	amd64 = processor{arch: "amd64", triplet: "x86_64-linux-gnu", console: "ttyS0", packages: "gcc-multilib",
		qemu: []string{"qemu-system-x86_64", "-machine", "q35", "-cpu", "max"}}
	// Pointers are authenticated by an algorithm of qemu's own: the architecture's takes most of the time.
	arm64 = processor{arch: "arm64", triplet: "aarch64-linux-gnu", console: "ttyAMA0",
		packages: "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
		qemu:     []string{"qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"}}
)

// foreign reports whether this machine has another one.
func (p processor) foreign(t *testing.T) bool {
	t.Helper()
	return strings.TrimSpace(run(t, "dpkg", "--print-architecture")) != p.arch
}

// environment has Go build programs for the processor. Where this machine has another one, the compiler and libseccomp
// are those of its own release of Debian. They are unpacked into the user's cache: to install the compiler would remove
// gcc-multilib.
func (p processor) environment(t *testing.T) []string {
	t.Helper()
	if !p.foreign(t) {
		return nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	gcc := "gcc-" + strings.TrimSpace(run(t, "gcc", "-dumpversion"))
	native := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
	compiler := extracted(t, filepath.Join(cache, "intercede", p.triplet+"-"+gcc), native, gcc+"-"+p.triplet+",libc6-dev-"+p.arch+"-cross")
	library := extracted(t, filepath.Join(cache, "intercede", p.triplet+"-libseccomp"), p.arch, "libseccomp-dev")
	libraries := filepath.Join(library, "usr/lib", p.triplet)
	return []string{"GOARCH=" + p.arch, "CGO_ENABLED=1", "PATH=" + filepath.Join(compiler, "usr/bin") + ":" + os.Getenv("PATH"),
		// Of the assembler and the linker.
		"LD_LIBRARY_PATH=" + filepath.Join(compiler, "usr/lib", strings.TrimSpace(run(t, "gcc", "-print-multiarch"))),
		// As scripts/package builds, so that what both need is compiled once.
		"GOFLAGS=-trimpath",
		// With the library's folder, since Go's cache knows by this command alone what pkg-config has said.
		"CC=" + p.triplet + "-" + gcc + " --sysroot=" + compiler + " -L" + libraries,
		"PKG_CONFIG_LIBDIR=" + filepath.Join(libraries, "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR=" + library}
}

// extracted has packages of this machine's release in a folder, unpacked and with what they depend on.
func extracted(t *testing.T, folder, arch, packages string) string {
	t.Helper()
	if exists(folder) {
		return folder
	}
	release := strings.TrimSpace(run(t, "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"))
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(folder), "new")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	root := filepath.Join(work, "root")
	debootstrap(t, "--mode=root", "--variant=extract", "--architectures="+arch, "--include="+packages, release, root,
		"deb "+mirror(t, release)+" "+release+" main")
	move(t, root, folder)
	return folder
}
