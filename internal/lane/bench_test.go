package lane

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

const peerMark = "INTERCEDE_TEST_LANE_PEER"

func TestMain(m *testing.M) {
	if os.Getenv(peerMark) != "" {
		echo()
	}
	os.Exit(m.Run())
}

// echo answers every notification on descriptor 3.
func echo() {
	runtime.LockOSThread()
	end := New(3)
	for {
		var message wire.BrokerMessage
		if _, err := end.Receive(&message); err != nil {
			os.Exit(0)
		}
		response := &wire.Response{Kind: &wire.Response_Continue{Continue: true}}
		if err := end.Send(&wire.PluginMessage{Message: &wire.PluginMessage_Response{Response: response}}); err != nil {
			os.Exit(1)
		}
	}
}

// BenchmarkRoundTrip is a notification to another process and its answer.
func BenchmarkRoundTrip(b *testing.B) {
	ours, theirs, err := Pair()
	if err != nil {
		b.Fatal(err)
	}
	peer := exec.Command("/proc/self/exe")
	peer.Env = append(os.Environ(), peerMark+"=1")
	socket := os.NewFile(uintptr(theirs), "lane")
	peer.ExtraFiles = []*os.File{socket}
	if err := peer.Start(); err != nil {
		b.Fatal(err)
	}
	socket.Close()
	end := New(ours)
	defer peer.Wait()
	defer end.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := &wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: &wire.Notification{
		Id: 1 << 60, Session: 1, Syscall: "getppid", Arch: 0xc000003e, Nr: 110, Args: make([]uint64, 6), Tid: 1000}}}
	var answer wire.PluginMessage
	for b.Loop() {
		if err := end.Send(n); err != nil {
			b.Fatal(err)
		}
		answer.Reset()
		if _, err := end.Receive(&answer); err != nil {
			b.Fatal(err)
		}
	}
}
