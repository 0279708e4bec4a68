package mount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestParseDevice(t *testing.T) {
	for text, want := range map[string]deviceRange{
		"7:0":          {major: 7},
		"7:*":          {major: 7, anyMinor: true},
		"*":            {anyMajor: true, anyMinor: true},
		"4095:1048575": {major: 4095, minor: 1048575},
	} {
		if got, err := parseDevice(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "7:", ":0", "4096:0", "0:1048576", "7:x", "*:0",
		"-1:0", "7:0:0", " 7:0", "7:0 ", "b 7:0", "**", "7:**"} {
		if got, err := parseDevice(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestAllowsDevice(t *testing.T) {
	p, err := config{Devices: []string{"7:300", "8:*"}}.policy(knownFilesystems(), filesystems{})
	if err != nil {
		t.Fatal(err)
	}
	for dev, want := range map[uint64]bool{
		unix.Mkdev(7, 300): true, unix.Mkdev(7, 44): false, unix.Mkdev(8, 0): true, unix.Mkdev(8, 1<<19): true,
		unix.Mkdev(300, 7): false, 0: false,
	} {
		if p.allowsDevice(dev) != want {
			t.Errorf("%d:%d: %v, want %v", unix.Major(dev), unix.Minor(dev), !want, want)
		}
	}
}

func TestRefusedSettings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for name, test := range map[string]struct {
		settings map[string]any
		want     string
	}{
		"unknown key":      {map[string]any{"allow": []string{"ext4"}}, "allow"},
		"no list":          {map[string]any{"allowed": "ext4"}, "list"},
		"bad name":         {map[string]any{"allowed": []string{"ext4,xfs"}}, "ext4,xfs"},
		"no device":        {map[string]any{"allowed": []string{"overlay"}}, "overlay"},
		"in both":          {map[string]any{"allowed": []string{"ext4"}, "fuse": map[string]string{"ext4": "fuse2fs"}}, "which of the two"},
		"fuse name":        {map[string]any{"fuse": map[string]string{"a b": "x"}}, "a b"},
		"handler":          {map[string]any{"fuse": map[string]string{"ext4": "fuse2fs -o x"}}, "fuse2fs"},
		"device":           {map[string]any{"devices": []string{"7"}}, "7"},
		"large device":     {map[string]any{"devices": []string{"5000:0"}}, "5000"},
		"stray options":    {map[string]any{"options": map[string]string{"xfs": "x"}}, "not in allowed"},
		"bad options":      {map[string]any{"allowed": []string{"xfs"}, "options": map[string]string{"xfs": "a=b"}}, "a=b"},
		"dangerous option": {map[string]any{"allowed": []string{"xfs"}, "options": map[string]string{"xfs": "logdev"}}, "logdev"},
		"ext2 alone":       {map[string]any{"allowed": []string{"ext2"}, "shift": true}, `list "ext4" too`},
		"shift":            {map[string]any{"shift": "yes"}, "shift"},
		"loop":             {map[string]any{"loop": []string{"7:512"}}, "7:512"},
		"large loop":       {map[string]any{"loop": []string{"1048576"}}, "1048576"},
		"empty loop":       {map[string]any{"loop": []string{"515-512"}}, "515, the first of the range, is above its last: want 512-515"},
		"long loop":        {map[string]any{"loop": []string{"512-576"}}, "512-576"},
		"many loops":       {map[string]any{"loop": []string{"512-560", "600-620"}}, "more than 64"},
		"loop twice":       {map[string]any{"loop": []string{"512-515", "515"}}, "515"},
	} {
		t.Run(name, func(t *testing.T) {
			err := h.Refusal(sdk.Container{ID: "c"}, test.settings)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something on %q", err, test.want)
			}
		})
	}
	settings := map[string]any{
		"allowed": []string{"ext4", "nonesuch"},
		"options": map[string]string{"nonesuch": "uid,gid"},
		"fuse":    map[string]string{"fuse.sshfs": "sshfs"},
	}
	if err := h.Refusal(sdk.Container{ID: "c"}, settings); err != nil {
		t.Errorf("good settings: %v", err)
	}
}

// What is legal and dangerous, or of no use, is said, and the container is served.
func TestFindings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for name, test := range map[string]struct {
		settings map[string]any
		want     []string // "key: start of the text", "!" before those that are refused
	}{
		"nothing":      {map[string]any{}, nil},
		"every device": {map[string]any{"allowed": []string{"ext4"}}, []string{`devices: "*"`}},
		"some":         {map[string]any{"allowed": []string{"ext4"}, "devices": []string{"7:*"}}, nil},
		"shift":        {map[string]any{"allowed": []string{"ext4", "xfs"}, "shift": true, "devices": []string{"7:0"}}, nil},
		"never shifted": {map[string]any{"allowed": []string{"ext2", "ext3"}, "shift": true, "devices": []string{"7:0"}},
			[]string{`!allowed: "ext2"`, `!allowed: "ext3"`}},
		"types of daemons": {map[string]any{"allowed": []string{"fuse", "fuseblk"}, "devices": []string{"7:0"}},
			[]string{`!allowed: "fuse" is the type`, `!allowed: "fuseblk" is the type`}},
		"handlers of types that have none": {map[string]any{"fuse": map[string]string{
			"fuse": "x", "fuse.x": "x", "fuseblk": "x", "fuseblk.x": "x", "overlay": "fuse-overlayfs", "proc": "x", "tmpfs": "x",
		}}, []string{`!fuse: "fuse" is the type`, `!fuse: "fuseblk" is the type`, `!fuse: "fuseblk.x" is the type`,
			`!fuse: "proc" is mounted`, `!fuse: "tmpfs" is mounted`}},
		"handler that mounts fuseblk": {map[string]any{"fuse": map[string]string{"ntfs": "/usr/bin/ntfs-3g", "ntfs3": "x"}},
			[]string{`fuse: handler "/usr/bin/ntfs-3g" of ntfs mounts fuseblk`}},
		"driver in fuse": {map[string]any{
			"allowed": []string{"ext2", "ext3", "xfs"}, "shift": true, "devices": []string{"7:0"},
			"fuse":    map[string]string{"ext4": "fuse2fs"},
			"options": map[string]string{"ext2": "x", "xfs": "y"},
		}, []string{`allowed: "ext2" is not mounted`, `allowed: "ext3" is not mounted`}},
		"driver in fuse, not shifted": {map[string]any{
			"allowed": []string{"ext2"}, "devices": []string{"7:0"}, "fuse": map[string]string{"ext4": "fuse2fs"},
		}, nil},
		"low loops": {map[string]any{"loop": []string{"0-9", "60-70", "64"}}, []string{`loop: "0-9"`, `loop: "60-70"`, `!loop: 64`}},
		"loops that cannot be mounted": {map[string]any{"allowed": []string{"ext4"}, "devices": []string{"7:512"}, "loop": []string{"512-514"}},
			[]string{`loop: loop513 cannot be mounted`}},
		"not known":        {map[string]any{"allowed": []string{"exf4"}, "devices": []string{"7:0"}}, []string{`allowed: "exf4" is not`}},
		"no module needed": {map[string]any{"allowed": []string{"nfs4"}, "devices": []string{"7:0"}}, []string{`!allowed: "nfs4"`}},
		"handlers": {map[string]any{"fuse": map[string]string{
			"a": "../x", "b": "x/../y", "c": "/usr/bin/x", "d": "x", "e": "..", "f": "/a/../b",
		}},
			[]string{`!fuse: handler "../x"`, `!fuse: handler "x/../y"`, `!fuse: handler ".."`, `!fuse: handler "/a/../b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			found := h.Findings(test.settings)
			for i, f := range found {
				text := f.Key + ": " + f.Text
				if !f.Warning {
					text = "!" + text
				}
				if i >= len(test.want) || !strings.HasPrefix(text, test.want[i]) {
					t.Errorf("finding %q, want %q", text, test.want)
				}
			}
			if len(found) != len(test.want) {
				t.Errorf("%d findings, want %q", len(found), test.want)
			}
		})
	}
}

func TestVet(t *testing.T) {
	settings := config{
		Allowed: []string{"ext4", "xfs", "vfat", "nonesuch"},
		Options: map[string]string{"nonesuch": "good", "vfat": "extra"},
	}
	p, err := settings.policy(knownFilesystems(), filesystems{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]verdict{
		"ext4 data=ordered": harmless, "ext4 ro": harmless, "ext4 journal_dev=1": refused, "ext4 journal_path=/x": refused,
		"ext4 journal_dev":     refused,
		"ext4 errors=continue": harmless, "ext4 errors=panic": refused, "ext4 errors": harmless,
		"ext4 context=x": unknown, "ext4 Journal_dev=1": unknown,
		"xfs logdev=/dev/sda": refused, "xfs rtdev=/x": refused, "xfs noalign": harmless,
		"vfat uid=3": harmless, "vfat extra": harmless, "vfat other": unknown,
		"nonesuch good=1": harmless, "nonesuch other": refused, "nonesuch fd=3": refused, "nonesuch sync": harmless,
	} {
		name, data, _ := strings.Cut(text, " ")
		if got := p.allowed[name].vet(parseOptions(data)[0]); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// TestTables have no option that is both harmless and refused.
func TestTables(t *testing.T) {
	for name, f := range knownFilesystems() {
		for key := range f.refused {
			if f.harmless[key] || genericOptions[key] {
				t.Errorf("%s: option %s is harmless and refused", name, key)
			}
		}
		for _, key := range slices.Concat(f.uids, f.gids, slices.Collect(maps.Keys(f.refusedValues))) {
			if !f.harmless[key] {
				t.Errorf("%s: option %s is not in the table", name, key)
			}
		}
		for _, o := range f.added {
			if f.vet(o) != harmless {
				t.Errorf("%s: option %s, which the plugin adds, is not in the table", name, o)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	for name, test := range map[string]struct {
		register   uint64
		attributes attributes
		options    string
		remount    bool
		invalid    bool
	}{
		"none":       {0, 0, "", false, false},
		"magic":      {unix.MS_MGC_VAL | unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, "ro", false, false},
		"half magic": {0x80000000, 0, "", false, true},
		"upper half": {1 << 40, 0, "", false, true},
		"noatime":    {unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME, "", false, false},
		"strict":     {unix.MS_NOATIME | unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME, "", false, false},
		"relatime":   {unix.MS_RELATIME, 0, "", false, false},
		"all": {
			unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NODIRATIME | unix.MS_NOSYMFOLLOW |
				unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC | unix.MS_LAZYTIME | unix.MS_MANDLOCK,
			unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC |
				unix.MOUNT_ATTR_NODIRATIME | unix.MOUNT_ATTR_NOSYMFOLLOW,
			"ro,sync,dirsync,mand,lazytime", false, false,
		},
		"remount":     {unix.MS_REMOUNT | unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, "ro", true, false},
		"bind":        {unix.MS_REMOUNT | unix.MS_BIND, 0, "", false, false},
		"old remount": {unix.MS_MGC_VAL | unix.MS_REMOUNT, 0, "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := decodeFlags(test.register)
			options := joinOptions(f.superblockOptions())
			if f.attributes() != test.attributes || options != test.options || f.isRemount() != test.remount || f.isInvalid() != test.invalid {
				t.Errorf("attributes %#x, options %q, remount %v, invalid %v", f.attributes(), options, f.isRemount(), f.isInvalid())
			}
		})
	}
}

func TestParseOptions(t *testing.T) {
	for data, want := range map[string][]option{
		"":            nil,
		",,":          nil,
		"=x":          nil,
		"ro":          {{key: "ro"}},
		"a=,b=c=d,,e": {{"a", "", true}, {"b", "c=d", true}, {key: "e"}},
		" a , b = c ": {{key: " a "}, {" b ", " c ", true}},
	} {
		if got := parseOptions(data); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", data, got, want)
		}
	}
}

// FuzzOptions holds the options against their own text, and looks for one that gets past the table in another spelling.
func FuzzOptions(f *testing.F) {
	for _, data := range []string{"", "ro,data=ordered", "a=,=b,,c==d", "journal_dev=0x700", ",journal_path=/x,", "errors=panic",
		"\x00,\xff=\n", strings.Repeat("a,", 2048)} {
		f.Add(data)
	}
	ext4 := knownFilesystems()["ext4"]
	f.Fuzz(func(t *testing.T, data string) {
		options := parseOptions(data)
		if again := parseOptions(joinOptions(options)); !slices.Equal(again, options) {
			t.Errorf("%q is %v, and again %v", data, options, again)
		}
		for _, o := range options {
			if o.key == "" || strings.ContainsAny(o.key, ",=") || strings.Contains(o.value, ",") || !o.set && o.value != "" {
				t.Errorf("%q has option %+v", data, o)
			}
			journal := strings.Contains(o.key, "journal_dev") || strings.Contains(o.key, "journal_path")
			if ext4.vet(o) == harmless && (journal || o.key == "errors" && o.value == "panic") {
				t.Errorf("%v is harmless", o)
			}
		}
	})
}

// FuzzCutData holds the string against the page that the kernel sees.
func FuzzCutData(f *testing.F) {
	f.Add([]byte("ro\x00rest"))
	f.Add(make([]byte, 4096))
	f.Add([]byte(strings.Repeat("a", 5000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := cutData(data)
		if strings.Contains(text, "\x00") || len(text) > maxData-1 || !strings.HasPrefix(string(data), text) {
			t.Errorf("%q of %q", text, data)
		}
	})
}

// FuzzHandlerArguments are never options of the handler's.
func FuzzHandlerArguments(f *testing.F) {
	for _, text := range []string{"", "-o", "--help", "/dev/sda", "host:dir", "-"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, name, data string) {
		if strings.HasPrefix(argument(name), "-") || !strings.HasSuffix(argument(name), name) {
			t.Errorf("%q becomes %q", name, argument(name))
		}
		if options := parseOptions(fuseOptions(0, data)); len(options) < 2 || options[0].key != "nosuid" || options[1].key != "nodev" {
			t.Errorf("%q gives %v", data, options)
		}
	})
}

// FuzzMountinfo reads what the container's mounts are called.
func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("36 35 98:0 /m /mnt rw,noatime shared:7 master:1 - ext3 /dev/root rw\n"), uint64(36))
	f.Add([]byte("36 - -\n\n - "), uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, id uint64) {
		line, err := findMount(t.Context(), bytes.NewReader(text), id)
		if err != nil {
			t.Fatal(err)
		}
		if group := line.peerGroup(); group != "" && !strings.Contains(string(text), "shared:"+group) {
			t.Errorf("group %q of %q", group, text)
		}
		for _, field := range append(line.tags, line.id, line.fstype) {
			if len(field) > maxField || strings.ContainsAny(field, " \n") || !strings.Contains(string(text), field) {
				t.Errorf("field %q of %q", field, text)
			}
		}
	})
}

func TestMountinfo(t *testing.T) {
	long := strings.Repeat("/long", 1<<16)
	mountinfo := "36 35 98:0 / / rw shared:7 - ext3 /dev/root rw\n40 36 0:1 " + long + " " + long + " rw master:7 - tmpfs none rw\n" +
		"41 36 0:2 / /n rw - fuse.x y rw\n" +
		"42 36 0:2 / /n rw shared:9 master:7 propagate_from:2 - fuseblk y rw\n43 36 0:2 / /-\n\n44 36 0:3 / /x rw - a b"
	for id, want := range map[uint64]struct {
		group         string
		slave, isFUSE bool
	}{36: {"7", true, false}, 40: {"", true, false}, 41: {"", false, true}, 42: {"9", true, true}, 43: {}, 44: {}, 3: {}} {
		l, err := findMount(t.Context(), strings.NewReader(mountinfo), id)
		if err != nil || l.peerGroup() != want.group || l.receives("7") != want.slave || l.isFUSE() != want.isFUSE {
			t.Errorf("mount %d is %+v, %v", id, l, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := findMount(ctx, strings.NewReader(mountinfo), 44); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// endless is a file with one line that is as long as there is memory for.
type endless struct {
	left int
}

func (e *endless) Read(data []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	for i := range data {
		data[i] = 'a'
	}
	e.left -= len(data)
	return len(data), nil
}

// TestLongMountinfo takes no memory for what a container's mounts are called.
func TestLongMountinfo(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := findMount(t.Context(), &endless{64 << 20}, 1); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("it took %d bytes", took)
	}
}

func TestHandlerPaths(t *testing.T) {
	for name, want := range map[string]string{
		"fuse2fs": "/sbin/fuse2fs /bin/fuse2fs /usr/sbin/fuse2fs /usr/bin/fuse2fs",
		"/opt/x":  "/opt/x", "opt/../x": "/x",
	} {
		if got := strings.Join(handlerPaths(name), " "); got != want {
			t.Errorf("%q is looked for in %q", name, got)
		}
	}
}
