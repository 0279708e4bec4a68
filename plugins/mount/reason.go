package mount

import (
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The codes of reasons.
const (
	filesystemNotListed = "filesystem_not_listed"
	deviceNotListed     = "device_not_listed"
	deviceNotOpened     = "device_not_opened"
	optionRefused       = "option_refused"
	optionUnknown       = "option_unknown"
	noCapability        = "no_capability"
	foreignNamespace    = "foreign_mount_namespace"
	foreignSuperblock   = "foreign_superblock"
	foreignContext      = "foreign_context"
	ownConnection       = "own_connection"
	olderInterface      = "older_interface"
	badArguments        = "bad_arguments"
	targetBusy          = "target_busy"
	hostSeesIt          = "shared_with_host"
	sourceGone          = "source_gone"
	sourceChanged       = "source_changed"
	notShifted          = "not_shifted"
	handlerMissing      = "handler_missing"
	handlerFailed       = "handler_failed"
	handlerTimeout      = "handler_timeout"
	tooManyHandlers     = "too_many_handlers"
	noFreeLoop          = "no_free_loop"
	kernelRefused       = "kernel_refused"
)

var reasons = []sdk.Reason{
	{Code: filesystemNotListed, Help: "The filesystem is neither in `allowed` nor in `fuse` of the plugin's settings: add it if containers may mount it."},
	{Code: deviceNotListed, Help: "The block device is not among `devices` of the plugin's settings: add it if containers may mount it."},
	{Code: deviceNotOpened, Help: "The caller cannot open the block device itself: its permissions, or the container's device cgroup, are in the way. Give the container the device."},
	{Code: optionRefused, Help: "The option names another device, path or descriptor, or harms the host: leave it out."},
	{Code: optionUnknown, Help: "The option is not known to be harmless: leave it out, or list it in the plugin's settings if you know that it is."},
	{Code: noCapability, Help: "The caller lacks CAP_SYS_ADMIN in the container's user namespace: give the container that capability (podman run --cap-add sys_admin)."},
	{Code: foreignNamespace, Help: "The caller's mount namespace belongs to a user namespace within the container: nothing is mounted there."},
	{Code: foreignSuperblock, Help: "The superblock was not made by this plugin for this container: the host, or another container, has the device mounted, or the kernel is to decide."},
	{Code: foreignContext, Help: "The filesystem context, or the mount, is not one that this plugin gave to the caller: the kernel decides."},
	{Code: ownConnection, Help: "A FUSE daemon mounts its own connection, for which the kernel asks for no privilege."},
	{Code: olderInterface, Help: "fsopen(2) is not there for this filesystem, so that the program goes on with mount(2), which is served."},
	{Code: badArguments, Help: "The arguments are wrong or cannot be read: the program is wrong, as it is without the plugin."},
	{Code: targetBusy, Help: "The filesystem is mounted on the target already."},
	{Code: hostSeesIt, Help: "The host would see the mount, because the target's mount is shared with it: make it private or a slave (mount --make-rslave)."},
	{Code: sourceGone, Help: "The name by which the device was mounted does not lead the caller to it any more, so that it may not write to it."},
	{Code: sourceChanged, Help: "The mount came from another device than the one that was checked: the source was exchanged meanwhile."},
	{Code: notShifted, Help: "The kernel cannot map the ids of this filesystem's files: set `shift = false` for the container, or use another filesystem."},
	{Code: handlerMissing, Help: "The FUSE handler is not in the container, or cannot be executed there: install it in the image."},
	{Code: handlerFailed, Help: "The FUSE handler ended without a mount: the text has its last words."},
	{Code: handlerTimeout, Help: "The FUSE handler did not mount in time: the `timeout` of the plugin is in the config."},
	{Code: tooManyHandlers, Help: "As many FUSE handlers of the container are waited for as may be: have handlers go into the background."},
	{Code: noFreeLoop, Help: "Of the loop devices in `loop` of the plugin's settings each is in use, or cannot be opened: list more, or let the container's device cgroup allow them."},
	{Code: kernelRefused, Help: "The kernel refused it for another cause than the missing privilege, as to real root: see the errno in mount(2)."},
}

// refusal is an errno for the caller, where the plugin's own failures are errors too.
type refusal struct {
	errno      unix.Errno
	code, text string
}

func (r refusal) Error() string { return r.errno.Error() }

// Unwrap gives the errno.
func (r refusal) Unwrap() error { return r.errno }

func (r refusal) response() sdk.Response { return sdk.Errno(r.errno).Because(r.code, r.text) }

func isRefusal(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// refuse turns the kernel's errno on what the caller gave into the caller's; other errors stay the plugin's failures.
func refuse(err error) error {
	if err == nil {
		return nil
	}
	return refuseAs(err, kernelRefused, err.Error())
}

// refuseAs is refuse with another reason.
func refuseAs(err error, code, text string) error {
	var errno unix.Errno
	if err == nil || isRefusal(err) || errors.Is(err, os.ErrProcessDone) || target.IsShortage(err) || !errors.As(err, &errno) {
		return err
	}
	return refusal{errno, code, text}
}

// handBack is an error of a call that is not the plugin's.
type handBack struct{ code, text string }

func (h handBack) Error() string { return h.code }

// next hands the call back.
func next(code, text string) (sdk.Response, error) { return sdk.Next().Because(code, text), nil }

func deviceText(dev uint64) string { return fmt.Sprintf("b %d:%d", unix.Major(dev), unix.Minor(dev)) }
