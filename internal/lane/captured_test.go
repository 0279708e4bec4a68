package lane

import (
	"reflect"
	"testing"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/wire"
	protobuf "google.golang.org/protobuf/proto"
)

// TestCaptured has a capture with every field go to a message and back, by space that was used before.
func TestCaptured(t *testing.T) {
	var m captured
	full := &capture.Captured{
		Errno: 1, Tid: 2, Credentials: &capture.Credentials{
			Tgid: 3, Uids: []uint32{4}, Gids: []uint32{5}, Groups: []uint32{6, 7}, Umask: 8, Tids: []int32{9}, Tgids: []int32{10},
			Permitted: 11, Effective: 12, UserNamespaceDev: 13, UserNamespaceIno: 14,
		},
		Handles: []*capture.Handle{
			{Part: capture.PartRoot, Number: 15, Errno: 16, HasDescriptor: true, Flags: 17, Text: []byte("a")}, {Part: capture.PartFile, Errno: 2},
		},
	}
	one := &capture.Captured{Handles: []*capture.Handle{{Part: capture.PartPidfd, HasDescriptor: true}}}
	for i, c := range []*capture.Captured{full, one, {}, full, {Errno: 3}} {
		message := m.of(c)
		if size := message.SizeVT(); size != protobuf.Size(message) {
			t.Errorf("%d: %d bytes, %d", i, size, protobuf.Size(message))
		}
		if got := Captured(message); !reflect.DeepEqual(got, c) {
			t.Errorf("%d: got %+v, want %+v", i, got, c)
		}
	}
	if got := Captured(nil); !reflect.DeepEqual(got, &capture.Captured{}) {
		t.Errorf("of no message: %+v", got)
	}
	// What this test does not know of, a message has and a capture has not.
	for message, fields := range map[protobuf.Message]int{&wire.Captured{}: 5, &wire.Handle{}: 6, &wire.Credentials{}: 11, &wire.Want{}: 3} {
		if n := message.ProtoReflect().Descriptor().Fields().Len(); n != fields {
			t.Errorf("%T has %d fields, not %d: package capture has a plain form of it", message, n, fields)
		}
	}
}

// TestParts compares package capture's numbers with those of the protocol.
func TestParts(t *testing.T) {
	plain := map[wire.Part]capture.Part{
		wire.Part_PART_CREDENTIALS: capture.PartCredentials, wire.Part_PART_PIDFD: capture.PartPidfd, wire.Part_PART_ROOT: capture.PartRoot,
		wire.Part_PART_WORKING_DIRECTORY: capture.PartWorkingDirectory, wire.Part_PART_MOUNT_NAMESPACE: capture.PartMountNamespace,
		wire.Part_PART_USER_NAMESPACE: capture.PartUserNamespace, wire.Part_PART_PID_NAMESPACE: capture.PartPIDNamespace,
		wire.Part_PART_NET_NAMESPACE: capture.PartNetNamespace, wire.Part_PART_UTS_NAMESPACE: capture.PartUTSNamespace,
		wire.Part_PART_IPC_NAMESPACE: capture.PartIPCNamespace, wire.Part_PART_CGROUP_NAMESPACE: capture.PartCgroupNamespace,
		wire.Part_PART_TIME_NAMESPACE: capture.PartTimeNamespace, wire.Part_PART_DESCRIPTOR: capture.PartDescriptor,
		wire.Part_PART_FILE: capture.PartFile, wire.Part_PART_CGROUPS: capture.PartCgroups, wire.Part_PART_MOUNTINFO: capture.PartMountinfo,
		wire.Part_PART_LIMITS: capture.PartLimits, wire.Part_PART_OOM_SCORE_ADJ: capture.PartOOMScoreAdj,
		wire.Part_PART_TIME_OFFSETS: capture.PartTimeOffsets, wire.Part_PART_HOST_MOUNTINFO: capture.PartHostMountinfo,
		wire.Part_PART_GROUP_THREADS: capture.PartGroupThreads, wire.Part_PART_USER_THREADS: capture.PartUserThreads,
		wire.Part_PART_EXEC_LABEL: capture.PartExecLabel, wire.Part_PART_NODE_TMPFS: capture.PartNodeTmpfs,
	}
	for number, name := range wire.Part_name {
		if part := wire.Part(number); part != wire.Part_PART_UNSPECIFIED && int32(plain[part]) != number {
			t.Errorf("%s is %d, and %d in package capture", name, number, plain[part])
		}
	}
}
