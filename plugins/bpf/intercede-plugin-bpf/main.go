// Command intercede-plugin-bpf loads and attaches device programs for unprivileged containers; see README.md.
package main

import (
	"github.com/intercede/intercede/plugins/bpf"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(bpf.Plugin) }
