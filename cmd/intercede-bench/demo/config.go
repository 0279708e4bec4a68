package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"github.com/intercede/intercede/internal/wire"
)

const fuseMajor, fuseMinor = 10, 229

// plugins are those that have examples, with the settings for them.
func plugins(d disk.Disk) map[string]string {
	return map[string]string{
		"mknod":   fmt.Sprintf(`devices = ["c 1:3", "c %d:%d", %q]`, fuseMajor, fuseMinor, d.Node()),
		"sysinfo": "", "setxattr": "", "sched": "",
		"bpf":   "devices = true",
		"mount": `allowed = ["ext4"]` + "\nshift = true\n" + `fuse = { ext2 = "fuse2fs" }`,
	}
}

// installed are the names of the plugins whose programs are in the folder.
func installed(pluginDir string, settings map[string]string) map[string]bool {
	found := map[string]bool{}
	for name := range settings {
		_, err := os.Stat(filepath.Join(pluginDir, wire.BinaryPrefix+name))
		found[name] = err == nil
	}
	return found
}

// writeConfig writes a config of the installed plugins.
func writeConfig(path, pluginDir string, found map[string]bool, settings map[string]string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "[broker]\nplugin_dir = %q\n", pluginDir)
	for name, values := range settings {
		if found[name] {
			fmt.Fprintf(&text, "[plugins.%s]\ngrant = \"manifest\"\n[plugins.%[1]s.config]\n%s\n", name, values)
		}
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}
