// Package wire is the contract between the broker and a plugin as Go code: what is generated from
// sdk/proto/plugin.proto, the go-plugin handshake, and the checks on a manifest that both ends apply.
package wire

//go:generate protoc -I../../sdk/proto --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative --go-vtproto_out=. --go-vtproto_opt=paths=source_relative,features=marshal+unmarshal+size plugin.proto
