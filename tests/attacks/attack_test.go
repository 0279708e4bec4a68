package attacks

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

// pending are the attacks that succeed, with the reason: they do not fail the suite. The list is to become empty. An
// attack that is listed and does not succeed any more is reported at the end.
var pending = map[string]string{}

// attack is one test: what was gained and who was harmed decide it when it is over.
type attack struct {
	*stage.Test
	mu    sync.Mutex
	found []string
}

// newAttack begins a test, before it makes anything that is cleaned up: it is judged after that.
func newAttack(t *testing.T) *attack {
	t.Helper()
	require.Root(t)
	a := &attack{}
	a.Test = stage.New(t, a.succeeded)
	t.Cleanup(a.judge)
	return a
}

// succeeded notes that the attack gained something, or did harm to others.
func (a *attack) succeeded(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found = append(a.found, fmt.Sprintf(format, args...))
}

func (a *attack) judge() {
	reason, listed := pending[a.Name()]
	switch text := strings.Join(a.found, "; "); {
	case a.Skipped():
	case listed && len(a.found) > 0:
		summary.addPending("pending: %s: %s (%s)", a.Name(), text, reason)
	case listed && !a.Failed():
		summary.addPending("PENDING NO MORE? %s gained nothing: take it from the list if that is mended: %s", a.Name(), reason)
	case len(a.found) > 0:
		a.Error(text)
	}
}

// results are printed when all attacks are over.
type results struct {
	mu             sync.Mutex
	lines, pending []string
}

var summary results

func (r *results) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *results) addPending(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, fmt.Sprintf(format, args...))
}

func (r *results) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range append(r.lines, r.pending...) {
		fmt.Println(line)
	}
}

// An attack that is repeated ends after so many attempts, or about this time.
var (
	attempts = stage.Number("ATTACKS_COUNT", 100_000)
	duration = period("ATTACKS_TIME", 3*time.Second)
)

// short bounds a load whose harm shows at once.
func short() time.Duration { return min(duration, 30*time.Second) }

// raceTime bounds a race, which has more to find the longer it is.
func raceTime() time.Duration { return 2 * duration }

func period(variable string, otherwise time.Duration) time.Duration {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("%s=%q: want a time, such as 5s", variable, text))
	}
	return d
}
