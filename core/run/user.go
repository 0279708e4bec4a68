package run

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/linux"
)

// user is whom the command runs as, in ids of the container.
type user struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// check refuses ids that the container does not have.
func (u *user) check(uids, gids idMap) error {
	for _, id := range append([]uint32{u.gid}, u.groups...) {
		if gids.outside(id) < 0 {
			return fmt.Errorf("group id %d is not one of the container's, which are %s: map it with --gidmap", id, gids)
		}
	}
	if uids.outside(u.uid) < 0 {
		return fmt.Errorf("user id %d is not one of the container's, which are %s: map it with --uidmap", u.uid, uids)
	}
	return nil
}

// accountsMax bounds the container's /etc/passwd and /etc/group, which the container's author wrote.
const accountsMax = 4 << 20

// lookupUser resolves USER[:GROUP] as podman does: a number need not be listed; without GROUP, the primary and
// supplementary groups are those listed for the user; with it, that group is the only one.
func lookupUser(spec string) (*user, error) {
	passwd, err := readAccounts("/etc/passwd", 7)
	if err != nil {
		return nil, err
	}
	group, err := readAccounts("/etc/group", 4)
	if err != nil {
		return nil, err
	}
	return resolveUser(spec, passwd, group)
}

func resolveUser(spec string, passwd, group [][]string) (*user, error) {
	userName, groupName, hasGroup := strings.Cut(spec, ":")
	if userName == "" {
		userName = "0"
	}
	found := &user{home: "/"}
	entry := findAccount(passwd, userName)
	var err error
	switch {
	case entry != nil:
		found.home = cmp.Or(entry[5], found.home)
		if found.uid, err = parseID(entry[2]); err == nil {
			found.gid, err = parseID(entry[3])
		}
	case isNumber(userName):
		found.uid, err = parseID(userName)
	default:
		err = fmt.Errorf("no user %q in the container's /etc/passwd: give a number, or add the user", userName)
	}
	if err != nil {
		return nil, err
	}
	if hasGroup {
		found.gid, err = resolveGroup(groupName, group)
		return found, err
	}
	if entry != nil {
		found.groups, err = memberships(entry[0], group)
	}
	return found, err
}

func resolveGroup(name string, group [][]string) (uint32, error) {
	if entry := findAccount(group, name); entry != nil {
		return parseID(entry[2])
	}
	if isNumber(name) {
		return parseID(name)
	}
	return 0, fmt.Errorf("no group %q in the container's /etc/group: give a number, or add the group", name)
}

func memberships(userName string, group [][]string) ([]uint32, error) {
	var groups []uint32
	for _, entry := range group {
		if !slices.Contains(strings.Split(entry[3], ","), userName) {
			continue
		}
		gid, err := parseID(entry[2])
		if err != nil {
			return nil, err
		}
		groups = append(groups, gid)
	}
	return groups, nil
}

// findAccount looks for a name, then for a number.
func findAccount(entries [][]string, name string) []string {
	for _, field := range []int{0, 2} {
		for _, entry := range entries {
			if entry[field] == name {
				return entry
			}
		}
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("id %q is not a number of 32 bits", s)
	}
	return uint32(id), nil
}

// readAccounts splits the lines of a colon-separated file that have at least the given number of fields. A missing
// file has none.
func readAccounts(path string, fields int) ([][]string, error) {
	data, _, err := linux.ReadRegular(path, accountsMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the user in the container's %s: %w", path, err)
	}
	var entries [][]string
	for line := range bytes.Lines(data) {
		if entry := strings.Split(strings.TrimSpace(string(line)), ":"); len(entry) >= fields {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}
