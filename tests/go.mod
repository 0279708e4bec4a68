module github.com/intercede/intercede/tests

go 1.26.0

require (
	github.com/intercede/intercede/internal v0.1.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/cilium/ebpf v0.22.0 // indirect
	golang.org/x/net v0.60.0 // indirect
)
