package filter

import (
	"math/rand/v2"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

func TestProgram(t *testing.T) {
	v := mustProgram(t, append([]*wire.Manifest{plugin("old", takes("umount"))}, shipped...)...)
	const (
		x86_64 = unix.AUDIT_ARCH_X86_64
		i386   = unix.AUDIT_ARCH_I386
	)
	for _, test := range []struct {
		name string
		call call
		want uint32
	}{
		{"character device", call{x86_64, 133, [6]uint64{1: unix.S_IFCHR | 0666}}, notify},
		{"block device", call{x86_64, 133, [6]uint64{1: unix.S_IFBLK | 0666}}, notify},
		{"fifo", call{x86_64, 133, [6]uint64{1: unix.S_IFIFO | 0666}}, allow},
		{"regular file", call{x86_64, 133, [6]uint64{1: unix.S_IFREG | 0666}}, allow},
		{"no type", call{x86_64, 133, [6]uint64{1: 0666}}, allow},
		{"garbage above the mode", call{x86_64, 133, [6]uint64{1: 0xdeadbeef_12340000 | unix.S_IFCHR}}, notify},
		{"garbage above another mode", call{x86_64, 133, [6]uint64{1: 0xdeadbeef_12340000 | unix.S_IFSOCK}}, allow},
		{"the value in another argument", call{x86_64, 133, [6]uint64{2: unix.S_IFCHR}}, allow},
		{"mknodat", call{x86_64, 259, [6]uint64{2: unix.S_IFCHR}}, notify},
		{"i386 character device", call{i386, 14, [6]uint64{1: unix.S_IFCHR | 0666}}, notify},
		{"i386 fifo", call{i386, 14, [6]uint64{1: unix.S_IFIFO | 0666}}, allow},
		{"i386 number on x86_64", call{x86_64, 14, [6]uint64{1: unix.S_IFCHR}}, allow},
		{"x86_64 number on i386", call{i386, 133, [6]uint64{1: unix.S_IFCHR}}, allow},
		{"x32 character device", call{x86_64, x32Bit | 133, [6]uint64{1: unix.S_IFCHR | 0666}}, notify},
		{"x32 fifo", call{x86_64, x32Bit | 133, [6]uint64{1: unix.S_IFIFO | 0666}}, allow},
		{"unconditional", call{x86_64, 99, [6]uint64{1, 2, 3, 4, 5, 6}}, notify},
		{"size 1", call{x86_64, 188, [6]uint64{3: 1}}, notify},
		{"size 0", call{x86_64, 188, [6]uint64{}}, allow},
		{"size with a high word", call{x86_64, 188, [6]uint64{3: 1<<32 | 1}}, allow},
		{"i386 size 1", call{i386, 226, [6]uint64{3: 1}}, notify},
		{"i386 size 2", call{i386, 226, [6]uint64{3: 2}}, allow},
		{"newer than libseccomp 2.5", call{x86_64, 463, [6]uint64{}}, notify},
		{"only i386 has it", call{i386, 22, [6]uint64{}}, notify},
		{"new superblock", call{x86_64, 165, [6]uint64{3: unix.MS_NOSUID}}, notify},
		{"bind mount", call{x86_64, 165, [6]uint64{3: unix.MS_BIND}}, allow},
		{"remount", call{x86_64, 165, [6]uint64{3: unix.MS_REMOUNT}}, notify},
		{"remount of a bind mount", call{x86_64, 165, [6]uint64{3: unix.MS_BIND | unix.MS_REMOUNT}}, allow},
		{"other calls", call{x86_64, 39, [6]uint64{}}, allow},
		{"calls that do not exist", call{x86_64, 5000, [6]uint64{}}, allow},
		{"number -1", call{x86_64, -1, [6]uint64{}}, allow},
		{"foreign architecture", call{unix.AUDIT_ARCH_AARCH64, 33, [6]uint64{}}, allow},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := run(v, test.call); got != test.want {
				t.Errorf("%#x, want %#x", got, test.want)
			}
		})
	}
}

func TestProgramJoinsPlugins(t *testing.T) {
	chr := plugin("chr", takes("mknod", when(1, unix.S_IFMT, unix.S_IFCHR)))
	blk := plugin("blk", takes("mknod", when(1, unix.S_IFMT, unix.S_IFBLK)))
	zero := plugin("zero", takes("mknod", both(when(1, unix.S_IFMT, 0), when(2, 0xffffffff, 0))))
	all := plugin("all", takes("mknod"))
	tautology := plugin("tautology", takes("mknod", when(1, 0, 0)))
	for _, test := range []struct {
		name      string
		manifests []*wire.Manifest
		want      map[call]uint32
	}{
		{"either condition", []*wire.Manifest{chr, blk}, map[call]uint32{
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFCHR}}: notify,
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFBLK}}: notify,
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFIFO}}: allow,
		}},
		{"all conditions of a match", []*wire.Manifest{zero}, map[call]uint32{
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{}}:                  notify,
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{2: 1}}:              allow,
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFIFO}}:   allow,
			{unix.AUDIT_ARCH_I386, 14, [6]uint64{}}:                     notify,
			{unix.AUDIT_ARCH_I386, 14, [6]uint64{1: 0666, 2: 0xffff00}}: allow,
		}},
		{"one without conditions", []*wire.Manifest{chr, all}, map[call]uint32{
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFIFO}}: notify,
		}},
		{"a condition that always holds", []*wire.Manifest{chr, tautology}, map[call]uint32{
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFIFO}}: notify,
		}},
		{"no plugin", nil, map[call]uint32{
			{unix.AUDIT_ARCH_X86_64, 133, [6]uint64{1: unix.S_IFCHR}}: allow,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := mustProgram(t, test.manifests...)
			for c, want := range test.want {
				if got := run(v, c); got != want {
					t.Errorf("%+v: %#x, want %#x", c, got, want)
				}
			}
		})
	}
}

// The program must say what the conditions say, for any conditions of any number of plugins.
func TestProgramOfRandomConditions(t *testing.T) {
	for seed := range uint64(300) {
		if checkRandomProgram(t, rand.New(rand.NewPCG(seed, 0))); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzProgram(f *testing.F) {
	f.Add(uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, a, b uint64) { checkRandomProgram(t, rand.New(rand.NewPCG(a, b))) })
}
