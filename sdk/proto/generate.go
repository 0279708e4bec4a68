// Package proto is the wire contract between the broker and a plugin: plugin.proto, the code generated from it, the
// go-plugin handshake, and the checks on a manifest that both ends apply.
package proto

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative --go-vtproto_out=. --go-vtproto_opt=paths=source_relative,features=marshal+unmarshal+size plugin.proto
