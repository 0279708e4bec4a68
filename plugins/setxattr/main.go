// Command intercede-plugin-setxattr sets approved trusted.* attributes for unprivileged containers; see README.md.
package main

import "github.com/intercede/intercede/sdk"

func main() { sdk.Serve(handler{}) }
