package filter

import "github.com/intercede/intercede/internal/wire"

// number identifies a system call as a notification does.
type number struct {
	arch uint32 // AUDIT_ARCH_*
	nr   int32  // x32 calls have bit 30 set
}

// Routes gives the names of the calls that the plugins take.
type Routes map[number]called

// called is the name of a number, or the names of what it stands for.
type called struct {
	name   string
	behind map[uint32]string
	mask   uint32 // of the first argument, for behind
}

// Resolve finds the calls that the manifests take on every architecture of this machine, compatibility ones too. A call
// that an architecture lacks is left out there; one that none has is an error.
func Resolve(manifests []*wire.Manifest) (Routes, error) {
	captures, err := collect(manifests)
	if err != nil {
		return nil, err
	}
	routes := Routes{}
	for _, c := range captures {
		for a, nr := range c.numbers {
			routes[number{a.audit, nr}] = called{c.name, c.behind, c.mask}
		}
	}
	return routes, nil
}

// Name is the name of a notification's call; ok is false if no plugin takes it. Of i386's socketcall(2) and ipc(2) the
// first argument tells the call.
func (r Routes) Name(arch uint32, nr int32, first uint64) (name string, ok bool) {
	c, ok := r[number{arch, nr}]
	if c.behind == nil {
		return c.name, ok
	}
	name, ok = c.behind[uint32(first)&c.mask]
	return name, ok
}

// Number is the number of a call that a plugin takes; ok is false if the architecture has it behind another call alone,
// or not at all. It is not that of x32.
func (r Routes) Number(name string, arch uint32) (nr int32, ok bool) {
	const x32 = 0x40000000 // asm/unistd.h
	for n, c := range r {
		if c.name == name && c.behind == nil && n.arch == arch && n.nr&x32 == 0 {
			return n.nr, true
		}
	}
	return 0, false
}
