package cbpf_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

const allow = uint32(unix.SECCOMP_RET_ALLOW)

func errno(n int) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(n) }

func mustAssemble(t testing.TB, p *cbpf.Program) []unix.SockFilter {
	t.Helper()
	program, err := p.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestJumpDistances jumps over any number of instructions, around the 255 that a conditional jump reaches.
func TestJumpDistances(t *testing.T) {
	for _, distance := range []int{0, 1, 254, 255, 256, 257, 4000} {
		t.Run(fmt.Sprint(distance), func(t *testing.T) {
			var p cbpf.Program
			end := p.NewLabel()
			p.LoadNumber()
			p.JumpUnless(7, end)
			for range distance {
				p.Return(errno(1))
			}
			p.Place(end)
			p.Return(errno(2))
			vm := cbpftest.New(t, mustAssemble(t, &p))
			seven := errno(1)
			if distance == 0 {
				seven = errno(2)
			}
			for nr, want := range map[int32]uint32{7: seven, 8: errno(2), -1: errno(2)} {
				if got := vm.Run(0, nr, [6]uint64{}); got != want {
					t.Errorf("call %d: %#x, want %#x", nr, got, want)
				}
			}
		})
	}
}

// TestLongBlocks has jumps over blocks that themselves have jumps over more than 255 instructions.
func TestLongBlocks(t *testing.T) {
	var p cbpf.Program
	end := p.NewLabel()
	for arch := range uint32(3) {
		next := p.NewLabel()
		p.LoadArch()
		p.JumpUnless(arch, next)
		p.LoadNumber()
		for nr := range uint32(300) {
			other := p.NewLabel()
			p.JumpUnless(nr, other)
			p.JumpUnless(nr, end)
			p.Return(errno(int(1000*arch + nr)))
			p.Place(other)
		}
		p.Place(next)
	}
	p.Place(end)
	p.Return(allow)
	vm := cbpftest.New(t, mustAssemble(t, &p))
	for arch := range uint32(4) {
		for nr := range int32(301) {
			want := errno(int(1000*arch) + int(nr))
			if arch == 3 || nr == 300 {
				want = allow
			}
			if got := vm.Run(arch, nr, [6]uint64{}); got != want {
				t.Fatalf("call %d of architecture %d: %#x, want %#x", nr, arch, got, want)
			}
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	for want, build := range map[string]func(p *cbpf.Program){
		"it is empty":                   func(*cbpf.Program) {},
		"it does not end with a return": func(p *cbpf.Program) { p.Return(allow); p.Place(p.NewLabel()) },
		"4097 instructions, the kernel takes 4096": func(p *cbpf.Program) {
			for range 4097 {
				p.Return(allow)
			}
		},
		"step 0 jumps to label 1, which is not placed after it": func(p *cbpf.Program) { p.JumpUnless(1, p.NewLabel()); p.Return(allow) },
		"step 1 jumps to label 1, which is not placed after it": func(p *cbpf.Program) {
			back := p.NewLabel()
			p.Place(back)
			p.JumpUnless(1, back)
			p.Return(allow)
		},
		"label 1 is placed twice": func(p *cbpf.Program) {
			l := p.NewLabel()
			p.Place(l)
			p.Place(l)
			p.Return(allow)
		},
	} {
		var p cbpf.Program
		build(&p)
		if program, err := p.Assemble(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d instructions, error %v; want %q", len(program), err, want)
		}
	}
}

func TestNotify(t *testing.T) {
	numbers := make([]uint32, 200)
	for i := range numbers {
		numbers[i] = uint32(3 * i)
	}
	program, err := cbpf.Notify(numbers...)
	if err != nil {
		t.Fatal(err)
	}
	vm := cbpftest.New(t, program)
	for nr := range int32(700) {
		want := allow
		if nr%3 == 0 && nr < 600 {
			want = unix.SECCOMP_RET_USER_NOTIF
		}
		if got := vm.Run(0, nr, [6]uint64{}); got != want {
			t.Fatalf("call %d: %#x, want %#x", nr, got, want)
		}
	}
}

// condition is a random question about an argument.
type condition struct {
	arg         uint32
	mask, value uint64
	narrow      bool
}

func (c condition) holds(args [6]uint64) bool {
	if c.narrow {
		return uint64(uint32(args[c.arg]))&c.mask == c.value
	}
	return args[c.arg]&c.mask == c.value
}

// word is random, with many bits or few, or in one half alone.
func word(random *rand.Rand) uint64 {
	w := random.Uint64() >> random.IntN(64)
	switch random.IntN(4) {
	case 0:
		return w & math.MaxUint32
	case 1:
		return w << 32
	case 2:
		return w & random.Uint64()
	}
	return w
}

// randomConditions makes some that calls have a chance to meet.
func randomConditions(random *rand.Rand) []condition {
	conditions := make([]condition, 60)
	for i := range conditions {
		c := condition{arg: uint32(random.IntN(6)), mask: word(random), narrow: random.IntN(4) == 0}
		if random.IntN(8) == 0 {
			c.mask = math.MaxUint64
		}
		if c.value = word(random) & c.mask; random.IntN(8) == 0 {
			c.value = word(random)
		}
		conditions[i] = c
	}
	return conditions
}

// randomCalls are arguments that some of the conditions hold for.
func randomCalls(random *rand.Rand, conditions []condition) [][6]uint64 {
	calls := [][6]uint64{{}, {math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}}
	for _, c := range conditions {
		var args [6]uint64
		for i := range args {
			args[i] = word(random)
		}
		args[c.arg] = args[c.arg]&^c.mask | c.value
		calls = append(calls, args)
		args[c.arg] ^= 1 << random.IntN(64)
		calls = append(calls, args)
	}
	return calls
}

// ordered makes a program that fails getppid(2) with the number of the first condition that holds, from 1.
func ordered(t testing.TB, conditions []condition) []unix.SockFilter {
	var p cbpf.Program
	other := p.NewLabel()
	p.LoadNumber()
	p.JumpUnless(unix.SYS_GETPPID, other)
	for i, c := range conditions {
		next := p.NewLabel()
		p.JumpUnlessArgument(c.arg, c.mask, c.value, c.narrow, next)
		p.Return(errno(i + 1))
		p.Place(next)
	}
	p.Place(other)
	p.Return(allow)
	return mustAssemble(t, &p)
}

func firstThatHolds(conditions []condition, args [6]uint64) int {
	return 1 + slices.IndexFunc(conditions, func(c condition) bool { return c.holds(args) })
}

func TestArguments(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		conditions := randomConditions(random)
		vm := cbpftest.New(t, ordered(t, conditions))
		for _, args := range randomCalls(random, conditions) {
			want := allow
			if n := firstThatHolds(conditions, args); n > 0 {
				want = errno(n)
			}
			if got := vm.Run(0, unix.SYS_GETPPID, args); got != want {
				t.Fatalf("seed %d: arguments %x: %#x, want %#x: %+v", seed, args, got, want, conditions)
			}
		}
		if got := vm.Run(0, unix.SYS_GETPPID+1, [6]uint64{}); got != allow {
			t.Fatalf("another call: %#x", got)
		}
	}
}

// TestKernel has the kernel run a program, on a thread that ends with the test.
func TestKernel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	conditions := randomConditions(random)
	program, calls := ordered(t, conditions), randomCalls(random, conditions)
	failures := make(chan []string)
	// The filter goes with the thread.
	linux.GoOnThread(func() { failures <- callFiltered(program, conditions, calls) })
	for _, f := range <-failures {
		t.Error(f)
	}
}

func callFiltered(program []unix.SockFilter, conditions []condition, calls [][6]uint64) (failures []string) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return []string{err.Error()}
	}
	listener, err := notify.Load(program, 0)
	if err != nil {
		return []string{err.Error()}
	}
	defer unix.Close(int(listener))
	for _, a := range calls {
		_, _, got := unix.RawSyscall6(unix.SYS_GETPPID, uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
		if want := firstThatHolds(conditions, a); int(got) != want {
			failures = append(failures, fmt.Sprintf("arguments %x: errno %d, want %d", a, int(got), want))
		}
	}
	return failures
}
