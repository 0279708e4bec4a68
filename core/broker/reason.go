package broker

import (
	"context"
	"errors"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
)

// The codes of the broker's own reasons. A plugin may have the same ones: who gave a reason is in it.
const (
	codeNotTaken      = "not_taken"
	codeNotWanted     = "not_wanted"
	codeUndeclared    = "undeclared"
	codeOutside       = "outside_container"
	codeForeignPID    = "foreign_pid_namespace"
	codeRefused       = "settings_refused"
	codeRevoked       = "revoked"
	codeWithheld      = "withheld"
	codeDown          = "plugin_not_running"
	codeDied          = "plugin_died"
	codeFailed        = "plugin_failed"
	codeDeadline      = "deadline"
	codeQuarantined   = "quarantined"
	codeHang          = "memory_hangs"
	codeInterrupted   = "daemon_restarted"
	codeEnding        = "daemon_ending"
	codeNotWritten    = "result_not_written"
	codeNotAdded      = "descriptor_not_added"
	codeNotAnswered   = "not_answered"
	codeCallerUnknown = "caller_not_captured"
)

// Reasons are the broker's own, as a manifest has those of a plugin.
var Reasons = []*wire.ReasonCode{
	{Code: codeNotTaken, Help: "No plugin of the container takes this call: enable one in the config, or see `intercede policy explain`."},
	{Code: codeNotWanted, Help: "All plugins that take the call left it to the kernel, without a reason of their own."},
	{Code: codeUndeclared, Help: "The plugin gave a reason whose code its manifest does not have: report it to the plugin's author."},
	{Code: codeOutside, Help: "The caller is not in the container's user namespace, but its listener came from a peer that is not root: the kernel has the call."},
	{Code: codeForeignPID, Help: "The caller is in a PID namespace that the daemon does not see: run the daemon in the host's PID namespace."},
	{Code: codeRefused, Help: "The plugin refused the container or its settings when it was attached: correct them, and `intercede reload --running`, or create it anew."},
	{Code: codeRevoked, Help: "The operator has taken the plugin from the container (`intercede revoke`): create the container anew to give it back."},
	{Code: codeWithheld, Help: "The container got a policy without the plugin while it ran (`intercede reload --running`)."},
	{Code: codeDown, Help: "The plugin's process did not run, and was not started before the deadline: see `intercede status` and the daemon's log."},
	{Code: codeDied, Help: "The plugin's process died while it had the call, which may not be repeated: see the daemon's log."},
	{Code: codeFailed, Help: "The plugin failed: the text says how. See the daemon's log, and report it to the plugin's author."},
	{Code: codeDeadline, Help: "The plugin did not answer in time: a filesystem or a disk may be slow. The timeout of the plugin is in the config."},
	{Code: codeQuarantined, Help: "The container has harmed the plugin or the daemon, and its calls get the failure verdict for a time: `intercede status` says until when."},
	{Code: codeHang, Help: "A read or write of the caller's memory hangs in the kernel: a filesystem that the container serves itself does not answer."},
	{Code: codeInterrupted, Help: "The daemon ended while the plugin had the call, which may be done: the caller got EINTR, and may look and call again."},
	{Code: codeEnding, Help: "The daemon, or the container, was ending."},
	{Code: codeNotWritten, Help: "The result could not be written to the caller's memory: the caller gave a bad address."},
	{Code: codeNotAdded, Help: "The kernel did not add the descriptor to the caller: its table of descriptors is full, or the limit of them reached."},
	{Code: codeNotAnswered, Help: "The kernel did not take the answer: see the daemon's log."},
	{Code: codeCallerUnknown, Help: "The daemon could not copy or open what the plugin needs of the caller: the text says what."},
}

var (
	errCapture    = errors.New("the caller") // cannot be shown to the plugin
	errForeignPID = errors.New("the caller is in a pid namespace that the broker does not see")
)

// handedBack returns the reason of a call that one more plugin has handed back, which may have given one.
func handedBack(before, given audit.Reason) audit.Reason {
	switch {
	case given.Code != "":
		return given
	case before.Code == codeNotTaken:
		return audit.Reason{Code: codeNotWanted}
	default:
		return before
	}
}

// reasonOf returns the reason that the plugin gave with its response. Both are the plugin's word.
func reasonOf(p *boundPlugin, response *wire.Response) audit.Reason {
	given := response.GetReason()
	if given == nil {
		return audit.Reason{}
	}
	reason := audit.Reason{
		Plugin: p.binding.Plugin.Name(), Code: given.GetCode(), Text: wire.Plain(given.GetText(), wire.MaxReasonText),
	}
	if !p.binding.Plugin.Manifest().Declares(given) {
		reason.Plugin, reason.Code = "", codeUndeclared
	}
	return reason
}

// causes are the codes of what a call can fail of. The first that is meant counts.
var causes = []struct {
	err  error
	code string
}{
	{launcher.ErrQuarantined, codeQuarantined},
	{launcher.ErrRefused, codeRefused},
	{errRevoked, codeRevoked},
	{errWithheld, codeWithheld},
	{launcher.ErrDown, codeDown},
	{lane.ErrDied, codeDied},
	{ErrOver, codeEnding},
	{errInterrupted, codeInterrupted},
	{errHang, codeHang},
	{errForeignPID, codeForeignPID},
	{errCapture, codeCallerUnknown},
	{context.DeadlineExceeded, codeDeadline},
}

// failureReason returns why a call got the failure verdict.
func failureReason(err error) audit.Reason {
	reason := audit.Reason{Code: codeFailed, Text: wire.Plain(err.Error(), wire.MaxReasonText)}
	for _, cause := range causes {
		if errors.Is(err, cause.err) {
			reason.Code = cause.code
			break
		}
	}
	return reason
}
