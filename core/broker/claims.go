package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/intercede/intercede/core/container"
)

// What peers say of their containers, most of which is annotations, is in the broker's memory and, twice, in the
// records on /run. So it is bounded, in bytes of JSON.
const (
	maxClaim       = 1 << 20   // of one container
	maxUserClaims  = 8 << 20   // of the containers that one user other than root has brought
	maxUsersClaims = 64 << 20  // of those that all users other than root have brought: a user may have the IDs of many
	maxClaims      = 128 << 20 // of all containers
)

// ErrClaims means that a peer says more of a container than the broker keeps.
var ErrClaims = errors.New("more is said of containers than the daemon keeps: shorten their annotations")

// claims counts what peers have said of the containers that are attached.
type claims struct {
	mu    sync.Mutex
	all   int
	users int            // of those that users other than root have brought
	user  map[uint32]int // of these, by user
}

// saidBy is how much a user has said of a container.
type saidBy struct {
	root  bool
	uid   uint32
	bytes int
}

func said(claim container.Claim) saidBy {
	text, _ := json.Marshal(claim) // made of what JSON has
	s := saidBy{root: claim.Trusted(), bytes: len(text)}
	if !s.root {
		s.uid = *claim.PeerUID
	}
	return s
}

// check returns an error that wraps ErrClaims if there is no room for a container. The lock is held.
func (c *claims) check(s saidBy) error {
	switch {
	case s.bytes > maxClaim:
		return fmt.Errorf("%w: of this one %d bytes, and %d are kept", ErrClaims, s.bytes, maxClaim)
	case !s.root && c.user[s.uid]+s.bytes > maxUserClaims:
		return fmt.Errorf("%w: of the containers of user %d, %d bytes", ErrClaims, s.uid, maxUserClaims)
	case !s.root && c.users+s.bytes > maxUsersClaims:
		return fmt.Errorf("%w: of those of all users other than root, %d bytes", ErrClaims, maxUsersClaims)
	case c.all+s.bytes > maxClaims:
		return fmt.Errorf("%w: of all containers, %d bytes", ErrClaims, maxClaims)
	}
	return nil
}

// use counts a container in, if there is room for it.
func (c *claims) use(s saidBy) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(s); err != nil {
		return err
	}
	c.add(s, 1)
	return nil
}

// adopt counts a container in that another broker has had room for.
func (c *claims) adopt(s saidBy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(s, 1)
}

// free counts a container out.
func (c *claims) free(s saidBy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(s, -1)
}

func (c *claims) add(s saidBy, sign int) {
	n := sign * s.bytes
	c.all += n
	if s.root {
		return
	}
	c.users += n
	if c.user == nil {
		c.user = map[uint32]int{}
	}
	if c.user[s.uid] += n; c.user[s.uid] == 0 {
		delete(c.user, s.uid)
	}
}

// CheckRoom returns an error that says what is missing for another container, of which a peer says this.
func (b *Broker) CheckRoom(claim container.Claim) error {
	b.claims.mu.Lock()
	defer b.claims.mu.Unlock()
	return errors.Join(b.descriptors.checkArrival(), b.claims.check(said(claim)))
}
