package strace

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// bpfCommand has flags above its 16 bits, as bpf(2) of kernel 6.18 reads it.
func bpfCommand(c Call, i int) string {
	value := uint32(c.Args[i])
	if value>>16 != 0 {
		return nth(bpfCommands, value&0xffff) + "|" + hex(uint64(value&^0xffff))
	}
	return nth(bpfCommands, value)
}

// bpfAttr shows the fields of a command that say what it is about (union bpf_attr, include/uapi/linux/bpf.h).
func bpfAttr(c Call, i int) string {
	data, ok := c.copied(i)
	if !ok {
		return pointer(c, i)
	}
	a := attr(data)
	switch uint32(c.Args[0]) & 0xffff {
	case unix.BPF_PROG_LOAD:
		return structure([]string{
			"prog_type=" + nth(programTypes, a.u32(0)), fmt.Sprintf("insn_cnt=%d", a.u32(4)),
			"insns=" + hex(a.u64(8)), "license=" + hex(a.u64(16)),
			fmt.Sprintf("log_level=%d", a.u32(24)), fmt.Sprintf("log_size=%d", a.u32(28)), "log_buf=" + hex(a.u64(32)),
			"prog_flags=" + hex(uint64(a.u32(44))), "prog_name=" + quote(a.name(48), maxString),
			"expected_attach_type=" + nth(attachTypes, a.u32(68)),
		})
	case unix.BPF_PROG_ATTACH, unix.BPF_PROG_DETACH:
		return structure([]string{
			fmt.Sprintf("target_fd=%d", int32(a.u32(0))), fmt.Sprintf("attach_bpf_fd=%d", int32(a.u32(4))),
			"attach_type=" + nth(attachTypes, a.u32(8)), "attach_flags=" + bits(uint64(a.u32(12)), attachFlags),
			fmt.Sprintf("replace_bpf_fd=%d", int32(a.u32(16))),
		})
	case unix.BPF_PROG_QUERY:
		return structure([]string{"query=" + structure([]string{
			fmt.Sprintf("target_fd=%d", int32(a.u32(0))), "attach_type=" + nth(attachTypes, a.u32(4)),
			"query_flags=" + hex(uint64(a.u32(8))), "prog_ids=" + hex(a.u64(16)), fmt.Sprintf("prog_cnt=%d", a.u32(24)),
		})})
	case unix.BPF_PROG_GET_FD_BY_ID:
		return structure([]string{fmt.Sprintf("prog_id=%d", a.u32(0)), fmt.Sprintf("next_id=%d", a.u32(4)), "open_flags=" + hex(uint64(a.u32(8)))})
	case unix.BPF_LINK_CREATE:
		return structure([]string{"link_create=" + structure([]string{
			fmt.Sprintf("prog_fd=%d", int32(a.u32(0))), fmt.Sprintf("target_fd=%d", int32(a.u32(4))),
			"attach_type=" + nth(attachTypes, a.u32(8)), "flags=" + hex(uint64(a.u32(12))),
		})})
	default:
		return quote(data, maxString)
	}
}

// attr is a union bpf_attr as far as it was copied: the kernel takes what lies behind for zero.
type attr []byte

// name is a field of BPF_OBJ_NAME_LEN bytes.
func (a attr) name(offset int) []byte {
	var b [16]byte
	copy(b[:], a[min(offset, len(a)):])
	name, _, _ := bytes.Cut(b[:], []byte{0})
	return name
}

func (a attr) u32(offset int) uint32 { return uint32(a.u64(offset)) }

func (a attr) u64(offset int) uint64 {
	var b [8]byte
	copy(b[:], a[min(offset, len(a)):])
	return binary.LittleEndian.Uint64(b[:])
}

var attachFlags = []named{
	{unix.BPF_F_ALLOW_OVERRIDE, "BPF_F_ALLOW_OVERRIDE"}, {unix.BPF_F_ALLOW_MULTI, "BPF_F_ALLOW_MULTI"},
	{unix.BPF_F_REPLACE, "BPF_F_REPLACE"}, {unix.BPF_F_BEFORE, "BPF_F_BEFORE"}, {unix.BPF_F_AFTER, "BPF_F_AFTER"}, {unix.BPF_F_ID, "BPF_F_ID"},
}

var bpfCommands = []string{
	"BPF_MAP_CREATE", "BPF_MAP_LOOKUP_ELEM", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY",
	"BPF_PROG_LOAD", "BPF_OBJ_PIN", "BPF_OBJ_GET", "BPF_PROG_ATTACH", "BPF_PROG_DETACH", "BPF_PROG_TEST_RUN",
	"BPF_PROG_GET_NEXT_ID", "BPF_MAP_GET_NEXT_ID", "BPF_PROG_GET_FD_BY_ID", "BPF_MAP_GET_FD_BY_ID",
	"BPF_OBJ_GET_INFO_BY_FD", "BPF_PROG_QUERY", "BPF_RAW_TRACEPOINT_OPEN", "BPF_BTF_LOAD", "BPF_BTF_GET_FD_BY_ID",
	"BPF_TASK_FD_QUERY", "BPF_MAP_LOOKUP_AND_DELETE_ELEM", "BPF_MAP_FREEZE", "BPF_BTF_GET_NEXT_ID",
	"BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH", "BPF_MAP_UPDATE_BATCH", "BPF_MAP_DELETE_BATCH",
	"BPF_LINK_CREATE", "BPF_LINK_UPDATE", "BPF_LINK_GET_FD_BY_ID", "BPF_LINK_GET_NEXT_ID", "BPF_ENABLE_STATS",
	"BPF_ITER_CREATE", "BPF_LINK_DETACH", "BPF_PROG_BIND_MAP",
}

var programTypes = []string{
	"BPF_PROG_TYPE_UNSPEC", "BPF_PROG_TYPE_SOCKET_FILTER", "BPF_PROG_TYPE_KPROBE", "BPF_PROG_TYPE_SCHED_CLS",
	"BPF_PROG_TYPE_SCHED_ACT", "BPF_PROG_TYPE_TRACEPOINT", "BPF_PROG_TYPE_XDP", "BPF_PROG_TYPE_PERF_EVENT",
	"BPF_PROG_TYPE_CGROUP_SKB", "BPF_PROG_TYPE_CGROUP_SOCK", "BPF_PROG_TYPE_LWT_IN", "BPF_PROG_TYPE_LWT_OUT",
	"BPF_PROG_TYPE_LWT_XMIT", "BPF_PROG_TYPE_SOCK_OPS", "BPF_PROG_TYPE_SK_SKB", "BPF_PROG_TYPE_CGROUP_DEVICE",
	"BPF_PROG_TYPE_SK_MSG", "BPF_PROG_TYPE_RAW_TRACEPOINT", "BPF_PROG_TYPE_CGROUP_SOCK_ADDR",
	"BPF_PROG_TYPE_LWT_SEG6LOCAL", "BPF_PROG_TYPE_LIRC_MODE2", "BPF_PROG_TYPE_SK_REUSEPORT",
	"BPF_PROG_TYPE_FLOW_DISSECTOR", "BPF_PROG_TYPE_CGROUP_SYSCTL", "BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE",
	"BPF_PROG_TYPE_CGROUP_SOCKOPT", "BPF_PROG_TYPE_TRACING", "BPF_PROG_TYPE_STRUCT_OPS", "BPF_PROG_TYPE_EXT",
	"BPF_PROG_TYPE_LSM", "BPF_PROG_TYPE_SK_LOOKUP", "BPF_PROG_TYPE_SYSCALL", "BPF_PROG_TYPE_NETFILTER",
}

var attachTypes = []string{
	"BPF_CGROUP_INET_INGRESS", "BPF_CGROUP_INET_EGRESS", "BPF_CGROUP_INET_SOCK_CREATE", "BPF_CGROUP_SOCK_OPS",
	"BPF_SK_SKB_STREAM_PARSER", "BPF_SK_SKB_STREAM_VERDICT", "BPF_CGROUP_DEVICE", "BPF_SK_MSG_VERDICT",
	"BPF_CGROUP_INET4_BIND", "BPF_CGROUP_INET6_BIND", "BPF_CGROUP_INET4_CONNECT", "BPF_CGROUP_INET6_CONNECT",
	"BPF_CGROUP_INET4_POST_BIND", "BPF_CGROUP_INET6_POST_BIND", "BPF_CGROUP_UDP4_SENDMSG",
	"BPF_CGROUP_UDP6_SENDMSG", "BPF_LIRC_MODE2", "BPF_FLOW_DISSECTOR", "BPF_CGROUP_SYSCTL",
	"BPF_CGROUP_UDP4_RECVMSG", "BPF_CGROUP_UDP6_RECVMSG", "BPF_CGROUP_GETSOCKOPT", "BPF_CGROUP_SETSOCKOPT",
	"BPF_TRACE_RAW_TP", "BPF_TRACE_FENTRY", "BPF_TRACE_FEXIT", "BPF_MODIFY_RETURN", "BPF_LSM_MAC",
	"BPF_TRACE_ITER", "BPF_CGROUP_INET4_GETPEERNAME", "BPF_CGROUP_INET6_GETPEERNAME",
	"BPF_CGROUP_INET4_GETSOCKNAME", "BPF_CGROUP_INET6_GETSOCKNAME", "BPF_XDP_DEVMAP",
	"BPF_CGROUP_INET_SOCK_RELEASE", "BPF_XDP_CPUMAP", "BPF_SK_LOOKUP", "BPF_XDP", "BPF_SK_SKB_VERDICT",
	"BPF_SK_REUSEPORT_SELECT", "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", "BPF_PERF_EVENT", "BPF_TRACE_KPROBE_MULTI",
	"BPF_LSM_CGROUP", "BPF_STRUCT_OPS", "BPF_NETFILTER", "BPF_TCX_INGRESS", "BPF_TCX_EGRESS",
	"BPF_TRACE_UPROBE_MULTI",
}
