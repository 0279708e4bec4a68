package bpf

import (
	"syscall"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// The codes of reasons.
const (
	noCapability    = "no_capability"
	badArguments    = "bad_arguments"
	notOfDevices    = "not_of_devices"
	programNotTaken = "program_not_taken"
	programSize     = "program_size"
	tooManyPrograms = "too_many_programs"
	verifierRefused = "verifier_refused"
	noOwnCgroup     = "no_own_cgroup"
	foreignCgroup   = "foreign_cgroup"
	foreignProgram  = "foreign_program"
	unseenPrograms  = "programs_above_unseen"
	wouldOverride   = "would_override"
	notMulti        = "not_multi"
	tooManyAttached = "too_many_attached"
	kernelRefused   = "kernel_refused"
)

var reasons = []sdk.Reason{
	{Code: noCapability, Help: "The caller lacks CAP_SYS_ADMIN in the container's user namespace: give the container that capability (podman run --cap-add sys_admin)."},
	{Code: badArguments, Help: "The arguments are wrong or cannot be read, or a descriptor is not what the command is for: the program is wrong, as it is without the plugin."},
	{Code: notOfDevices, Help: "The command is not about device programs of a cgroup, the only ones that the plugin serves."},
	{Code: programNotTaken, Help: "The plugin does not load this program: the text says why. The kernel asks for the caller's own privilege."},
	{Code: programSize, Help: "The program is empty, or has more instructions than `max_instructions` of the plugin's settings: raise that if containers may load it."},
	{Code: tooManyPrograms, Help: "The container has as many programs as `max_programs` of the plugin's settings allows: raise that, or have it close some."},
	{Code: verifierRefused, Help: "The kernel's verifier refused the program: its log went to the caller."},
	{Code: noOwnCgroup, Help: "The container has no cgroup of version 2 of its own: have its runtime make one (--cgroupns, systemd's Delegate=)."},
	{Code: foreignCgroup, Help: "The cgroup is not the container's own, nor below it."},
	{Code: foreignProgram, Help: "The program was not loaded or attached for this container."},
	{Code: unseenPrograms, Help: "The programs of the cgroups above cannot be seen, so that nobody knows whether one would be overridden: the text says why."},
	{Code: wouldOverride, Help: "A program that was attached above without BPF_F_ALLOW_MULTI would be overridden: have the host attach it with that flag."},
	{Code: notMulti, Help: "A program that is attached without BPF_F_ALLOW_MULTI would keep the host from attaching its own: the caller must set that flag."},
	{Code: tooManyAttached, Help: "As many programs are attached to the cgroup as a container may attach: detach some."},
	{Code: kernelRefused, Help: "The kernel refused it for another cause than the missing privilege, as to real root: see the errno in bpf(2)."},
}

// refusal is why a call fails.
type refusal struct {
	errno      syscall.Errno
	code, text string
}

// refuse is for what the kernel would do for the host's root, and the plugin does not. err is why that is so, where it
// is not the plugin's own decision.
func refuse(code string, err error) *refusal {
	text := ""
	if err != nil {
		text = err.Error()
	}
	return &refusal{unix.EPERM, code, text}
}

// wrong is for what is wrong in itself; nil for 0.
func wrong(errno syscall.Errno) *refusal { return because(errno, badArguments) }

// kernelSays is what the kernel answers the plugin; nil for 0.
func kernelSays(errno syscall.Errno) *refusal { return because(errno, kernelRefused) }

func because(errno syscall.Errno, code string) *refusal {
	if errno == 0 {
		return nil
	}
	return &refusal{errno, code, ""}
}

// response is for a refusal, or for success where it is nil.
func (r *refusal) response() sdk.Response {
	if r == nil {
		return sdk.Return(0)
	}
	return sdk.Errno(r.errno).Because(r.code, r.text)
}

// answer is the response for a refusal, which may be nil.
func answer(refused *refusal, err error) (sdk.Response, error) {
	if err != nil {
		return sdk.Response{}, err
	}
	return refused.response(), nil
}
