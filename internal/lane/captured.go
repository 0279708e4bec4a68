package lane

import (
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/wire"
)

// captured is the message of a capture. It shares texts and ids with that, and its space is used again.
type captured struct {
	message     wire.Captured
	credentials wire.Credentials
	space       []*wire.Handle
}

// of is the message of the capture, good as long as that is.
func (m *captured) of(c *capture.Captured) *wire.Captured {
	m.message.Errno, m.message.Tid, m.message.Credentials, m.message.Descriptors = c.Errno, c.Tid, nil, 0
	if from := c.Credentials; from != nil {
		to := &m.credentials
		to.Tgid, to.Uids, to.Gids, to.Groups, to.Umask = from.Tgid, from.Uids, from.Gids, from.Groups, from.Umask
		to.Tids, to.Tgids, to.Permitted, to.Effective = from.Tids, from.Tgids, from.Permitted, from.Effective
		to.UserNamespaceDev, to.UserNamespaceIno = from.UserNamespaceDev, from.UserNamespaceIno
		m.message.Credentials = to
	}
	for len(m.space) < len(c.Handles) {
		m.space = append(m.space, &wire.Handle{})
	}
	m.message.Handles = m.space[:len(c.Handles)]
	for i, from := range c.Handles {
		to := m.space[i]
		to.Part, to.Number, to.Errno, to.HasDescriptor = wire.Part(from.Part), from.Number, from.Errno, from.HasDescriptor
		to.Flags, to.Text = from.Flags, from.Text
	}
	return &m.message
}

// Captured is the capture of a message, with which it shares texts and ids.
func Captured(m *wire.Captured) *capture.Captured {
	c := &capture.Captured{Errno: m.GetErrno(), Tid: m.GetTid()}
	if from := m.GetCredentials(); from != nil {
		c.Credentials = &capture.Credentials{
			Tgid: from.GetTgid(), Uids: from.GetUids(), Gids: from.GetGids(), Groups: from.GetGroups(), Umask: from.GetUmask(),
			Tids: from.GetTids(), Tgids: from.GetTgids(), Permitted: from.GetPermitted(), Effective: from.GetEffective(),
			UserNamespaceDev: from.GetUserNamespaceDev(), UserNamespaceIno: from.GetUserNamespaceIno(),
		}
	}
	handles := make([]capture.Handle, len(m.GetHandles()))
	for i, from := range m.GetHandles() {
		handles[i] = capture.Handle{
			Part: capture.Part(from.GetPart()), Number: from.GetNumber(), Errno: from.GetErrno(), HasDescriptor: from.GetHasDescriptor(),
			Flags: from.GetFlags(), Text: from.GetText(),
		}
		c.Handles = append(c.Handles, &handles[i])
	}
	return c
}

// Capture captures what is asked for of the thread tid, or of the one that it names.
func Capture(set *capture.Set, tid int, question *wire.Capture) {
	var wants []*capture.Want
	for _, w := range question.GetWants() {
		wants = append(wants, &capture.Want{Part: capture.Part(w.GetPart()), Number: w.GetNumber(), Controllers: w.GetControllers()})
	}
	if named := int(question.GetThread()); named == 0 {
		set.Asked(tid, wants)
	} else {
		set.AskedOfThread(tid, named, wants)
	}
}

// CaptureDeclared captures what a plugin's manifest declares for a system call of the thread tid with these arguments.
func CaptureDeclared(set *capture.Set, tid int, declared []*wire.Declared, args *[6]uint64) {
	for _, d := range declared {
		set.Declared(tid, capture.Part(d.GetPart()), args[d.GetArg()])
	}
}
