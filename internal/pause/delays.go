//go:build intercede_delays

package pause

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

const variable = "INTERCEDE_DELAYS"

// longest are the longest times of the steps; that of the step "" is for all others.
var longest = mustParse(os.Getenv(variable))

// At waits as long as the environment says.
func At(s Step) {
	most, ok := longest[s]
	if !ok {
		most = longest[""]
	}
	if most > 0 {
		time.Sleep(rand.N(most))
	}
}

// Environment returns what a program needs in its environment to have the same delays, if it is to have no other.
func Environment() []string { return []string{variable + "=" + os.Getenv(variable)} }

func mustParse(text string) map[Step]time.Duration {
	delays, err := parse(text)
	if err != nil {
		panic(variable + ": " + err.Error())
	}
	return delays
}

func parse(text string) (map[Step]time.Duration, error) {
	delays := map[Step]time.Duration{}
	if text == "" {
		return delays, nil
	}
	for _, word := range strings.Split(text, ",") {
		step, duration, named := strings.Cut(word, "=")
		if !named {
			step, duration = "", word
		}
		most, err := time.ParseDuration(duration)
		if err != nil || named && !known[Step(step)] {
			return nil, fmt.Errorf("%q: want TIME or STEP=TIME", word)
		}
		delays[Step(step)] = most
	}
	return delays, nil
}

var known = map[Step]bool{
	Received: true, Capture: true, Captured: true, Valid: true, Answer: true, Write: true, Send: true,
	Handle: true, Enter: true, Act: true,
}
