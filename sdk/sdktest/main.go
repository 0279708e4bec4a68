package sdktest

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// stageEnv says what a re-executed test binary is.
const stageEnv = "SDKTEST_STAGE"

const (
	stageInit    = "init"    // process 1 of a container
	stageProgram = "program" // about to execute a program in one
)

// mainCalled reports whether this test binary can be re-executed.
var mainCalled bool

// Main is TestMain for a package whose tests use NewContainer or AsRoot, which re-execute the test binary. The handlers
// are those that NewContainer runs in processes of their own. It does not return.
//
//	func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }
func Main(m *testing.M, handlers ...sdk.Handler) {
	sandbox.Init()
	for _, h := range handlers {
		registered = append(registered, &processes{handler: h})
	}
	becomePlugin()
	switch stage := os.Getenv(stageEnv); stage {
	case "":
		mainCalled = true
		resetNice()
		code := m.Run()
		stopPlugins()
		removeCallers()
		os.Exit(code)
	case stageInit:
		exitWith(runInit())
	case stageProgram:
		exitWith(runProgram())
	default:
		exitWith(fmt.Errorf("%s=%q: no such stage", stageEnv, stage))
	}
}

// resetNice gives all threads of this process the nice value 0 (sched(7)), which what they start inherits. Scripts say
// what callers find; under nice(1) that would be something else.
func resetNice() {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			unix.Setpriority(unix.PRIO_PROCESS, tid, 0)
		}
	}
}

// exitWith ends a stage. What it has to say goes to the test's standard error.
func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "sdktest:", err)
		os.Exit(125)
	}
	os.Exit(0)
}
