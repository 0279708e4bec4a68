// A plugin that was made for another intercede: in which way, its name says.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const manifest = `{"name": %q, "version": "1", "on_failure": {"errno": 38}, "syscalls": [{"name": "quotactl"}]%s}`

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "intercede-plugin-")
	more := map[string]string{
		"protocols": `, "protocols": [2]`,
		"needs":     `, "needs": [{"name": "telepathy", "since": "9.0.0"}]`,
		"field":     `, "aura": "green"`,
	}
	switch {
	case len(os.Args) == 2:
		fmt.Printf(manifest, name, more[name])
	case name == "handshake":
		fmt.Println("1|2|unix|/nowhere|grpc|")
		select {}
	case name == "library":
		fmt.Fprintln(os.Stderr, "libfoo.so.1: not found")
		os.Exit(127)
	}
}
