package caller

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestServe(t *testing.T) {
	undone := 0
	results := []syscall.Errno{0, unix.EPERM, unix.ENOENT, 0}
	calls := map[string]Call{
		"mixed": {
			Make: func() (errno unix.Errno) {
				errno, results = results[0], append(results[1:], results[0])
				return errno
			},
			Undo: func() error { undone++; return nil },
			Show: func() string { return "seen" },
		},
		"stuck": {
			Make: func() unix.Errno { return 0 },
			Undo: func() error { return errors.New("cannot be undone") },
		},
	}
	for _, test := range []struct {
		name string
		ask  request
		want answer
	}{
		{"show", request{Call: "mixed"}, answer{Shown: "seen"}},
		{"not to be shown", request{Call: "stuck"}, answer{Error: `call "stuck" cannot be shown`}},
		{"unknown", request{Call: "none", Times: 1}, answer{Error: `unknown call "none"`}},
		{"the first errno", request{Call: "mixed", Times: 4}, answer{Errno: unix.EPERM}},
		{"not undone", request{Call: "stuck", Times: 2}, answer{Error: "cannot be undone"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := respond(test.ask, calls)
			if test.want.Error == "" && len(got.Durations) != test.ask.Times {
				t.Errorf("%d durations", len(got.Durations))
			}
			if got.Shown != test.want.Shown || got.Errno != test.want.Errno || got.Error != test.want.Error {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	if undone != 2 {
		t.Errorf("%d calls were undone, want those 2 that succeeded", undone)
	}
}

func TestServeEndsWithItsInput(t *testing.T) {
	calls := map[string]Call{"getppid": Getppid(), "sysinfo": Sysinfo()}
	var out strings.Builder
	in := strings.NewReader(`{"call":"getppid","times":2}` + "\n" + `{"call":"sysinfo","times":1}` + "\n")
	if err := Serve(in, &out, calls); err != nil {
		t.Fatal(err)
	}
	if answers := strings.Count(out.String(), `"durations":[`); answers != 2 {
		t.Errorf("%d answers: %s", answers, out.String())
	}
	if err := Serve(strings.NewReader("{"), &out, calls); err == nil {
		t.Error("half a request was accepted")
	}
}

func TestPercentile(t *testing.T) {
	ten := Durations{7, 1, 10, 3, 5, 9, 2, 8, 4, 6}
	for _, test := range []struct {
		name string
		of   Durations
		p    float64
		want time.Duration
	}{
		{"none", nil, 50, 0},
		{"one", Durations{3}, 99, 3},
		{"half", ten, 50, 5},
		{"between ranks", ten, 51, 6},
		{"high", ten, 99, 10},
		{"lowest", ten, 0, 1},
		{"highest", ten, 100, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.of.Percentile(test.p); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
