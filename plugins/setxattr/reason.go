package setxattr

import "github.com/intercede/intercede/sdk"

// The codes of reasons.
const (
	attributeNotListed = "attribute_not_listed"
	valueNotListed     = "value_not_listed"
	badArguments       = "bad_arguments"
	badFile            = "bad_file"
	noCapability       = "no_capability"
	notOwner           = "not_owner"
	nothingToShow      = "nothing_to_show"
	tooMuchInMemory    = "too_much_in_memory"
	kernelRefused      = "kernel_refused"
	unknownToKernel    = "unknown_to_kernel"
)

var reasons = []sdk.Reason{
	{Code: attributeNotListed, Help: "The attribute is not among `attributes` of the plugin's settings: add it if containers may have it."},
	{Code: valueNotListed, Help: "The attribute is among `attributes` of the plugin's settings, but not with this value, or one as long: add that if containers may have it."},
	{Code: badArguments, Help: "The arguments are wrong, or cannot be read: the kernel says what it thinks of them."},
	{Code: badFile, Help: "The path or the descriptor leads to no file that the caller reaches: the kernel says why."},
	{Code: noCapability, Help: "The caller lacks CAP_SYS_ADMIN in the container's user namespace: give the container that capability (podman run --cap-add sys_admin)."},
	{Code: notOwner, Help: "The file's owner is not mapped in the container, or is another user and the caller has no CAP_FOWNER; or the container serves the file itself."},
	{Code: nothingToShow, Help: "The file has no listed attribute of trusted.*: the kernel's own list is complete."},
	{Code: tooMuchInMemory, Help: "The container has set as much in memory as it may (32 MiB), on filesystems that are not known to be on a disk."},
	{Code: kernelRefused, Help: "The kernel refused it for another cause than the missing privilege, as to real root: see the errno in setxattr(2) or getxattr(2)."},
	{Code: unknownToKernel, Help: "The kernel does not have this system call, which 6.13 brought: it says so with ENOSYS."},
}

// foreign is why a call is not the plugin's; with an empty code it is.
type foreign struct {
	code, text string
}

var unsound = foreign{code: badArguments}

func (f foreign) next() sdk.Response { return sdk.Next().Because(f.code, f.text) }
