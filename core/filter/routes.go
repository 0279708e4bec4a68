package filter

import "github.com/intercede/intercede/internal/wire"

// Number identifies a system call as a notification does.
type Number struct {
	Arch uint32 // AUDIT_ARCH_*
	NR   int32  // x32 calls have bit 30 set
}

// Routes gives the names of the calls that the plugins take.
type Routes map[Number]string

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
			routes[Number{a.audit, nr}] = c.name
		}
	}
	return routes, nil
}

// Name is the name of a notification's call; ok is false if no plugin takes it.
func (r Routes) Name(arch uint32, nr int32) (name string, ok bool) {
	name, ok = r[Number{arch, nr}]
	return name, ok
}
