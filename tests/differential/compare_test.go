package differential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// difference is the first one between two observations. What comes after it may follow from it.
type difference struct {
	sequence  sequence
	command   string // that printed another result; "": see what
	what      string // "result", "tree", "mounts", "complaint", "end"
	got, want string
	earlier   []string // the commands before
	gotErrno  string
	wantErrno string
}

func (d *difference) String() string {
	return fmt.Sprintf("%s %q\n  container: %s\n  real root: %s", d.what, d.command, d.got, d.want)
}

// kind tells apart what is worth a report of its own.
func (d *difference) kind() string {
	words := append(strings.Fields(d.command), "", "")
	return fmt.Sprintf("%s %s %s: %s, %s", d.what, words[0], words[1], d.gotErrno, d.wantErrno)
}

// compare finds the first difference. It is nil if there is none.
func (s sequence) compare(got, want *observation) *difference {
	printing := s.printing()
	for i := range min(len(got.results), len(want.results), len(printing)) {
		a, b := s.alike(printing[i], got.results[i]), s.alike(printing[i], want.results[i])
		if a.String() != b.String() {
			return &difference{
				sequence: s, command: printing[i], what: "result", got: a.String(), want: b.String(), earlier: s.before(i),
				gotErrno: errnoOf(a), wantErrno: errnoOf(b),
			}
		}
	}
	for _, of := range []struct{ what, got, want string }{
		{"complaint", got.complaint, want.complaint},
		{"end", got.end, want.end},
		{"results", fmt.Sprint(len(got.results)), fmt.Sprint(len(want.results))},
	} {
		if of.got != of.want {
			return &difference{sequence: s, what: of.what, command: s.complainedOf(got, want), got: of.got, want: of.want, earlier: s.commands}
		}
	}
	if d := firstOther(got.tree, want.tree); d != nil {
		return &difference{sequence: s, what: "tree", got: d[0], want: d[1], earlier: s.commands}
	}
	if d := firstOther(alikeMounts(got.mounts), alikeMounts(want.mounts)); d != nil {
		return &difference{sequence: s, what: "mounts", got: d[0], want: d[1], earlier: s.commands}
	}
	return nil
}

// before are the commands before the one that prints the result of this number.
func (s sequence) before(result int) []string {
	for i, c := range s.commands {
		if !prints(c) {
			continue
		}
		if result == 0 {
			return s.commands[:i]
		}
		result--
	}
	return s.commands
}

// complainedOf is the command at which one of the callers gave up.
func (s sequence) complainedOf(all ...*observation) string {
	for _, o := range all {
		var n int
		if _, err := fmt.Sscanf(o.complaint, "command %d:", &n); err == nil && n > 0 && n <= len(s.commands) {
			return s.commands[n-1]
		}
	}
	return ""
}

func errnoOf(r result) string {
	errno, _, _ := strings.Cut(r.String(), " ")
	return errno
}

func firstOther(got, want []string) []string {
	for i := range max(len(got), len(want)) {
		a, b := "nothing", "nothing"
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			return []string{a, b}
		}
	}
	return nil
}

// alike takes out of a result what differs from process to process: the addresses in structs.
func (s sequence) alike(command string, r result) result {
	r.Bufs = slices.Clone(r.Bufs)
	next := 0
	for _, word := range strings.Split(command, " ") {
		kind, fields, _ := strings.Cut(word, ":")
		switch kind {
		case "buf", "hex":
			next++
		case "struct":
			own, at := next, 0
			next++
			for _, field := range strings.Split(fields, ",") {
				size, value, _ := strings.Cut(field, "=")
				if size != "p" {
					n, _ := strconv.Atoi(size) // 0 where it is not a number: the caller has complained
					at += n
					continue
				}
				if own < len(r.Bufs) && 2*(at+8) <= len(r.Bufs[own]) {
					r.Bufs[own] = r.Bufs[own][:2*at] + strings.Repeat("p", 16) + r.Bufs[own][2*(at+8):]
				}
				at += 8
				if strings.HasPrefix(value, "buf:") || strings.HasPrefix(value, "hex:") {
					next++
				}
			}
		}
	}
	if mask := families[s.family].mask; mask != nil {
		mask(s, command, &r)
	}
	return r
}

// documentedFlags are flags of mounts that differ as the mount plugin's page says: "The mount has nosuid and nodev",
// and with `shift` it is idmapped.
var documentedFlags = []string{"nosuid", "nodev", "idmapped"}

// documentedOptions are options of superblocks that differ: ext4 gets errors=remount-ro, as the mount plugin's page
// says. A tmpfs shows its owner as the host's id, and the defaults of its user namespace.
var documentedOptions = []string{"errors", "uid", "gid", "inode64"}

// alikeMounts are lines of mountinfo without ids, device numbers, and what is documented.
func alikeMounts(lines []string) []string {
	var all []string
	for _, line := range lines {
		fields := strings.Split(line, " ")
		end := slices.Index(fields, "-")
		if end < 6 || len(fields) < end+4 {
			all = append(all, line)
			continue
		}
		root, point, flags := fields[3], fields[4], fields[5]
		kind, source, options := fields[end+1], fields[end+2], fields[end+3]
		all = append(all, strings.Join([]string{
			root, point, leaveOut(flags, documentedFlags), kind, source, leaveOut(options, documentedOptions),
		}, " "))
	}
	return all
}

// leaveOut removes options from a list with commas.
func leaveOut(list string, out []string) string {
	var left []string
	for _, option := range strings.Split(list, ",") {
		key, _, _ := strings.Cut(option, "=")
		if !slices.Contains(out, key) {
			left = append(left, option)
		}
	}
	return strings.Join(left, ",")
}
