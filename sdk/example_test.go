package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// A plugin without sessions: it refuses host names that are longer than the operator wants.
func Example() {
	type config struct {
		Most uint8 `json:"most" help:"how many bytes a host name may have" max:"64"`
	}
	manifest := sdk.Manifest{
		Name: "hostname", Version: "1.0.0", Description: "refuses long host names",
		Syscalls:  []sdk.Syscall{{Name: "sethostname"}},
		OnFailure: sdk.FailErrno(unix.EPERM),
	}
	plugin := sdk.Func(manifest, config{Most: 16}, func(_ context.Context, req *sdk.Request, c *config) (sdk.Response, error) {
		if req.Args[1] > uint64(c.Most) {
			return sdk.Errno(unix.ENAMETOOLONG), nil
		}
		// The length is in a register, which the caller cannot change any more. sethostname(2) checks all else.
		return sdk.Next(), nil
	})
	sdk.Serve(plugin)
}

// counter keeps something for each container: how often it has called sync(2).
type counter struct{}

func (counter) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name: "counter", Version: "1.0.0", Description: "counts calls of sync(2)",
		Syscalls: []sdk.Syscall{{Name: "sync"}}, OnFailure: sdk.FailContinue(),
	}
}

func (counter) Attach(_ context.Context, container sdk.Container, settings sdk.Settings) (sdk.Session, error) {
	if err := settings.Decode(&struct{}{}); err != nil {
		return nil, err
	}
	calls := make(chan struct{})
	session := &counted{calls: calls}
	go func() { // for the life of the session: not with Attach's context
		n := 0
		for range calls {
			n++
		}
		container.Log().Info("ended", "calls", n)
	}()
	return session, nil
}

type counted struct{ calls chan struct{} }

func (s *counted) Handle(ctx context.Context, _ *sdk.Request) (sdk.Response, error) {
	select {
	case s.calls <- struct{}{}:
		return sdk.Next(), nil
	case <-ctx.Done(): // at the deadline, or when the caller was killed
		return sdk.Response{}, ctx.Err()
	}
}

func (s *counted) Close() error {
	close(s.calls) // no Handle is running any more
	return nil
}

// A Handler of one's own has a Session for each container.
func ExampleHandler() {
	sdk.Serve(counter{})
}

// The fields of a struct are the settings, with what the operator is told about them.
func ExampleSettingsOf() {
	type config struct {
		Names []string `json:"names" help:"names that are allowed" pattern:"[a-z]+" example:"web"`
		Most  uint8    `json:"most" help:"how many of them" min:"1"`
	}
	for _, s := range sdk.SettingsOf(config{Names: []string{"a", "b"}, Most: 10}) {
		fmt.Println(s.Key, s.Default, s.Help)
	}
	var c config
	err := sdk.Settings(`{"names": ["web"], "most": 3}`).Decode(&c)
	fmt.Println(c, err)
	// Output:
	// names [a b] names that are allowed
	// most 10 how many of them
	// {[web] 3} <nil>
}

// getcpu(2) that tells everybody processor 0: the broker writes that to the caller's memory, if it may be written
// there.
func ExampleResponse_Write() {
	handle := func(_ context.Context, req *sdk.Request) (sdk.Response, error) {
		response := sdk.Return(0)
		for i := range 2 {
			if address := req.Pointer(i); address != 0 { // both pointers may be NULL
				response = response.Write(address, make([]byte, 4))
			}
		}
		return response, nil
	}
	response, err := handle(context.Background(), &sdk.Request{Arch: sdk.ArchX86_64, Args: [6]uint64{0x1000}})
	fmt.Println(response, err)
	// Output: value 0 <nil>
}

// An answer that is a descriptor: the caller gets it under a number of its own, close-on-exec, and the SDK closes the
// file.
func ExampleAddFD() {
	open := func(context.Context, *sdk.Request) (sdk.Response, error) {
		file, err := os.Open(os.DevNull)
		if errors.Is(err, os.ErrNotExist) {
			return sdk.Errno(unix.ENODEV), nil // for the caller
		}
		if err != nil {
			return sdk.Response{}, err // for the operator: the plugin has failed
		}
		return sdk.AddFD(file, true), nil
	}
	response, err := open(context.Background(), nil)
	fmt.Println(response, err)
	// Output: addfd <nil>
}

// Only a caller with the capability in the container's own user namespace is served; for others the call goes on as if
// the plugin were not there.
func ExampleRequest_Privileged() {
	handle := func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		privileged, err := req.Privileged(ctx, unix.CAP_SYS_TIME)
		if err != nil {
			return sdk.Response{}, err
		}
		if !privileged {
			return sdk.Next(), nil // the kernel asks for the capability itself
		}
		return sdk.Return(0), nil
	}
	_ = sdk.Syscall{Name: "settimeofday", Captures: []sdk.Capture{sdk.CaptureCredentials}}
	_ = handle
}

// A struct that has a pointer in it, as that of mount_setattr(2): the struct is declared, what it points to is asked
// for. Each is read once, and the copy decides.
func ExampleRequest_Read() {
	const most = 4096
	handle := func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		header, fault := req.Bytes(0) // sdk.ReadStruct(0, 16): a length and an address
		if fault != 0 {
			return sdk.Errno(fault), nil
		}
		var length, address uint64
		for i := range 8 {
			length |= uint64(header[i]) << (8 * i)
			address |= uint64(header[8+i]) << (8 * i)
		}
		if length > most {
			return sdk.Errno(unix.E2BIG), nil
		}
		data, fault, err := req.Read(ctx, address, int(length))
		if err != nil || fault != 0 {
			return sdk.Errno(fault), err
		}
		return sdk.Return(int64(len(data))), nil
	}
	_ = handle
}

// What a container can cause to be logged goes to the request's log, which is limited for each container.
func ExampleRequest_Log() {
	handle := func(_ context.Context, req *sdk.Request) (sdk.Response, error) {
		begun := time.Now()
		defer func() { req.Log().Debug("looked up", "took", time.Since(begun)) }()
		return sdk.Next(), nil
	}
	_ = handle
	slog.Info("started") // of the plugin itself
}

func ExampleIDMap_Inside() {
	m := sdk.IDMap{{Inside: 0, Outside: 100000, Length: 65536}}
	fmt.Println(m.Inside(101000))
	fmt.Println(m.Inside(0)) // root of the host is nobody in the container
	// Output:
	// 1000 true
	// 0 false
}

// once is a session of a call that must not be done twice: it makes a node that has to be new.
type once struct{ counted }

func (*once) Check(_ context.Context, req *sdk.Request) (response sdk.Response, done bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/the/node", &st); err != nil {
		return sdk.Response{}, false, nil // it was not made: Handle is called
	}
	return sdk.Return(0), req.ChangedSince(st.Ctim), nil
}

// A plugin that died may have done the call that it had: its next process looks.
func ExampleChecker() {
	var _ sdk.Checker = &once{}
	_ = sdk.Syscall{Name: "mknod", Repeat: sdk.RepeatCheck}
}
