package capture

// These are plain forms of the messages of the same names in plugin.proto, whose comments say what they mean. Package
// lane converts them.

// Part is something of a thread that can be captured.
type Part int32

const (
	PartCredentials      Part = 1
	PartPidfd            Part = 2
	PartRoot             Part = 3
	PartWorkingDirectory Part = 4
	PartMountNamespace   Part = 5
	PartUserNamespace    Part = 6
	PartPIDNamespace     Part = 7
	PartNetNamespace     Part = 8
	PartUTSNamespace     Part = 9
	PartIPCNamespace     Part = 10
	PartCgroupNamespace  Part = 11
	PartTimeNamespace    Part = 12
	PartDescriptor       Part = 13
	PartFile             Part = 14
	PartCgroups          Part = 15
	PartMountinfo        Part = 16
	PartLimits           Part = 17
	PartOOMScoreAdj      Part = 18
	PartTimeOffsets      Part = 19
	PartHostMountinfo    Part = 20
	PartExecLabel        Part = 21
	PartNodeTmpfs        Part = 22
	PartGroupThreads     Part = 23
	PartUserThreads      Part = 24
)

// Want is a part that is asked for.
type Want struct {
	Part        Part
	Number      int32
	Controllers []string
}

// Captured is what was captured.
type Captured struct {
	Errno       int32
	Tid         int32
	Credentials *Credentials // nil: they were not captured
	Handles     []*Handle
}

// Handle is one captured part.
type Handle struct {
	Part          Part
	Number        int32
	Errno         int32
	HasDescriptor bool
	Flags         uint32
	Text          []byte
}

// Credentials are those of a thread.
type Credentials struct {
	Tgid                               int32
	Uids, Gids, Groups                 []uint32
	Umask                              uint32
	Tids, Tgids                        []int32
	Permitted, Effective               uint64
	UserNamespaceDev, UserNamespaceIno uint64
}
