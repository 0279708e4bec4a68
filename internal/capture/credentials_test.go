package capture

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const someStatus = `Name:	a\nUmask: 0777
Umask:	0027
State:	S (sleeping)
Tgid:	41
Ngid:	0
Pid:	42
PPid:	1
Uid:	1	2	3	4
Gid:	5	6	7	8
FDSize:	64
Groups:	9 10 
NStgid:	41	1
NSpid:	42	2
CapInh:	0000000000000000
CapPrm:	000001ffffffffff
CapEff:	0000000008000000
CapBnd:	000001ffffffffff
`

func TestParseStatus(t *testing.T) {
	got := &Credentials{Groups: []uint32{1, 2, 3, 4}} // used before
	if err := ParseStatus([]byte(someStatus), got); err != nil {
		t.Fatal(err)
	}
	want := &Credentials{
		Tgid: 41, Uids: []uint32{1, 2, 3, 4}, Gids: []uint32{5, 6, 7, 8}, Groups: []uint32{9, 10}, Umask: 0o27,
		Tids: []int32{42, 2}, Tgids: []int32{41, 1}, Permitted: 1<<41 - 1, Effective: 1 << unix.CAP_MKNOD,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseStatusRefuses(t *testing.T) {
	for name, test := range map[string]struct{ old, new string }{
		"no line":       {"Tgid:\t41\n", ""},
		"a line twice":  {"Tgid:\t41\n", "Tgid:\t41\nTgid:\t41\n"},
		"no number":     {"Tgid:\t41", "Tgid:\tx"},
		"too few ids":   {"1\t2\t3\t4", "1\t2\t3"},
		"negative":      {"Tgid:\t41", "Tgid:\t-1"},
		"not octal":     {"0027", "0089"},
		"no pids":       {"NSpid:\t42\t2", "NSpid:"},
		"not even text": {someStatus, "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(someStatus, test.old, test.new, 1)
			got := &Credentials{}
			if err := ParseStatus([]byte(text), got); err == nil {
				t.Errorf("got %v", got)
			}
		})
	}
	t.Run("exited", func(t *testing.T) {
		text := strings.Replace(someStatus, "Umask:\t0027\n", "", 1)
		if err := ParseStatus([]byte(text), &Credentials{}); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzParseStatus checks that what is understood is understood the same when it is written down again.
func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(someStatus))
	f.Add([]byte(strings.Replace(someStatus, "Groups:\t9 10 ", "Groups:\t", 1)))
	f.Add([]byte("Umask:\t0022\nUid:\t1"))
	f.Add([]byte(strings.Replace(someStatus, "Umask:\t0027\n", "", 1)))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, again := &Credentials{}, &Credentials{}
		if ParseStatus(text, c) != nil {
			return
		}
		if err := ParseStatus(formatStatus(c), again); err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v became %v, %v", c, again, err)
		}
	})
}

func formatStatus(c *Credentials) []byte {
	var b strings.Builder
	list := func(key string, numbers any) {
		fmt.Fprintf(&b, "%s:\t%s\n", key, strings.Trim(fmt.Sprint(numbers), "[]{}"))
	}
	list("Tgid", c.Tgid)
	list("Uid", c.Uids)
	list("Gid", c.Gids)
	list("Groups", c.Groups)
	list("NSpid", c.Tids)
	list("NStgid", c.Tgids)
	fmt.Fprintf(&b, "Umask:\t%04o\nCapPrm:\t%016x\nCapEff:\t%016x\n", c.Umask, c.Permitted, c.Effective)
	return []byte(b.String())
}
