package main

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/intercede/intercede/sdk/sdktest"
)

// scripted is a script, the errors that real root gets from its calls ("ok EEXIST"), and how those that are notified are
// answered ("value errno").
type scripted struct {
	script []string
	want   string
	kinds  string
}

// pair compares the plugin with real root, each with a tree of its own.
type pair struct{ *sdktest.Pair }

func newPair(t *testing.T) pair {
	t.Helper()
	c, _ := newContainer(t)
	return pair{&sdktest.Pair{Container: c, Host: newTree(t).container(t, nil, sdktest.WithRealRoot()), Alike: withoutAddresses}}
}

func (p pair) compare(t *testing.T, test scripted) {
	t.Helper()
	p.Compare(t, test.want, test.kinds, test.script...)
}

// withoutAddresses clears what looks like an address in each call's attr: it is another in each process.
func withoutAddresses(lines []sdktest.Line) []sdktest.Line {
	for _, l := range lines {
		if len(l.Bufs) == 0 {
			continue
		}
		for a := l.Bufs[0]; len(a) >= 8; a = a[8:] {
			if word := binary.NativeEndian.Uint64(a); word >= 1<<16 && word < 1<<48 {
				clear(a[:8])
			}
		}
	}
	return lines
}

func load(fields map[string]string) string { return "sys " + loadWith(always(1), fields) }

var unreachable = asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return(), asm.Return()}

func TestLoad(t *testing.T) {
	bad := "sys " + loadWith(asm.Instructions{asm.Return()}, nil)
	log := func(size, buf string) map[string]string {
		return map[string]string{"log_level": "4=1", "log_size": "4=" + size, "log_buf": buf}
	}
	long := map[string]string{"more": "8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,4=0,4=0xffffffff", "size": "144"}
	withLong := func(fields map[string]string) map[string]string {
		for key, value := range long {
			fields[key] = value
		}
		return fields
	}
	p := newPair(t)
	for name, test := range map[string]scripted{
		"cloexec":       {[]string{load(nil), "sys fcntl 3 F_GETFD"}, "ok ok", "addfd"},
		"short":         {[]string{load(map[string]string{"size": "48"})}, "ok", "addfd"},
		"144 bytes":     {[]string{load(withLong(map[string]string{}))}, "ok", "addfd"},
		"larger":        {[]string{load(map[string]string{"size": "300"})}, "ok", "addfd"},
		"size register": {[]string{load(map[string]string{"size": "0x7eadbeef00000048"})}, "ok", "addfd"},
		"deny null":     {[]string{"sys " + loadCall(denyNull)}, "ok", "addfd"},
		"name":          {[]string{load(map[string]string{"prog_name": "8=0x6465765f6473,8=0"})}, "ok", "addfd"},
		"bad name":      {[]string{load(map[string]string{"prog_name": "8=0x2f,8=0"})}, "EINVAL", "errno"},
		"long name":     {[]string{load(map[string]string{"prog_name": "8=0x6161616161616161,8=0x6161616161616161"})}, "EINVAL", "errno"},
		"attach type":   {[]string{load(map[string]string{"expected_attach_type": "4=6"})}, "ok", "addfd"},
		"strict":        {[]string{load(map[string]string{"prog_flags": "4=1"})}, "ok", "addfd"},
		"no license":    {[]string{load(map[string]string{"license": "8=0"})}, "EFAULT", "errno"},
		"bad license":   {[]string{load(map[string]string{"license": "p=protnone"})}, "EFAULT", "errno"},
		"open license":  {[]string{load(map[string]string{"license": "p=edge:GPL"})}, "EFAULT", "errno"},
		"long license":  {[]string{load(map[string]string{"license": "p=long:4000"})}, "ok", "addfd"},
		"license 127":   {[]string{load(map[string]string{"license": "p=long:127"})}, "ok", "addfd"},
		"no insns":      {[]string{load(map[string]string{"insns": "8=0"})}, "EFAULT", "errno"},
		"bad insns":     {[]string{load(map[string]string{"insns": "p=protnone"})}, "EFAULT", "errno"},
		"beyond insns":  {[]string{load(map[string]string{"insns": "p=edge:0123456", "insn_cnt": "4=2"})}, "EFAULT", "errno"},
		"0 insns":       {[]string{load(map[string]string{"insn_cnt": "4=0"})}, "E2BIG", "errno"},
		"too many":      {[]string{load(map[string]string{"insn_cnt": "4=1000001"})}, "E2BIG", "errno"},
		"most insns":    {[]string{load(map[string]string{"insn_cnt": "4=0xffffffff"})}, "E2BIG", "errno"},
		"refused":       {[]string{bad}, "EACCES", "errno"},
		"unreachable":   {[]string{"sys " + loadCall(unreachable)}, "EINVAL", "errno"},
		"log":           {[]string{load(log("4096", "p=buf:4096"))}, "ok", "addfd"},
		"log of 144":    {[]string{load(withLong(log("4096", "p=buf:4096")))}, "ok", "addfd"},
		"log, refused":  {[]string{"sys " + loadWith(asm.Instructions{asm.Return()}, withLong(log("4096", "p=buf:4096")))}, "EACCES", "errno"},
		"short log":     {[]string{"sys " + loadWith(denyNull, withLong(log("128", "p=buf:160")))}, "ENOSPC", "errno"},
		"tiny log":      {[]string{"sys " + loadWith(denyNull, withLong(log("8", "p=buf:16")))}, "ENOSPC", "errno"},
		"level 2":       {[]string{"sys " + loadWith(denyNull, withLong(map[string]string{"log_level": "4=2", "log_size": "4=8192", "log_buf": "p=buf:8192"}))}, "ok", "addfd"},
		"fixed":         {[]string{"sys " + loadWith(denyNull, withLong(map[string]string{"log_level": "4=9", "log_size": "4=128", "log_buf": "p=buf:160"}))}, "ENOSPC", "errno"},
		"no log":        {[]string{"sys " + loadWith(denyNull, withLong(map[string]string{"log_level": "4=1"}))}, "ok", "addfd"},
		"log, no size":  {[]string{load(log("0", "p=buf:16"))}, "EINVAL", "errno"},
		"log, no buf":   {[]string{load(log("4096", "8=0"))}, "EINVAL", "errno"},
		"log, no level": {[]string{load(map[string]string{"log_size": "4=128", "log_buf": "p=buf:128"})}, "EINVAL", "errno"},
		"huge log":      {[]string{load(log("0x80000000", "p=buf:128"))}, "EINVAL", "errno"},
		"bad log":       {[]string{load(log("4096", "p=protnone"))}, "EFAULT", "errno"},
		"bad level":     {[]string{load(map[string]string{"log_level": "4=64", "log_size": "4=128", "log_buf": "p=buf:128"})}, "EINVAL", "errno"},
	} {
		t.Run(name, func(t *testing.T) { p.compare(t, test) })
	}
}
