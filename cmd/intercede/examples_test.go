package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// examples is the folder of the programs of examples/, built once as an outsider does.
var examples = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(binaries, "examples")
	if output, err := exec.Command("../../scripts/examples", "--build", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("scripts/examples: %w\n%s", err, output)
	}
	return dir, os.Chmod(dir, 0o755)
})

func buildExamples(t *testing.T) string {
	t.Helper()
	require(t, "zip", "make", "protoc", "/usr/bin/python3")
	dir, err := examples()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// examplePlugins are the tables of the examples' plugins with what the config must grant them, and the programs in dir.
func examplePlugins(dir, sum string) string {
	path := func(name string) string {
		return fmt.Sprintf("path = %q\n", filepath.Join(dir, "intercede-plugin-"+name))
	}
	return "[plugins.hostname]\n" + path("hostname") + "grant = {}\n[plugins.hostname.config]\nname = \"go.test\"\n" +
		"[plugins.kmsg]\n" + path("kmsg") + "grant = {}\n" +
		"[plugins.modules]\n" + path("modules") +
		`grant = { capabilities = ["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_MODULE"], syscalls = ["finit_module", "setns"] }` +
		"\n[plugins.modules.config]\nallowed = [\"" + sum + "\"]\n"
}

// TestExamples has the plugins of examples/ in a container of `intercede run`, with what the config grants them and no
// more. No module is loaded: the only file that the config allows is none.
func TestExamples(t *testing.T) {
	require(t, "perl", "sh")
	dir := buildExamples(t)
	const notModule = "not a module"
	sum := sha256.Sum256([]byte(notModule))
	plugins := examplePlugins(dir, hex.EncodeToString(sum[:]))

	s := newSite(t, plugins)
	if r := intercede(t, "check", "--config", s.config()); r.status != 0 {
		t.Fatalf("check: %s", r.stderr)
	}
	script := fmt.Sprintf(`uname -n; hostname other 2>/dev/null || echo kept
		echo '<6>hello from the container' >>/dev/kmsg && echo written
		cd /tmp; printf 'not a module' >listed; printf other >unlisted
		for f in listed unlisted; do
			perl -e '$none = ""; open F, "<", $ARGV[0]; printf "$ARGV[0]: %%s\n", syscall(%d, fileno(F), $none, 0) < 0 ? $! : "loaded"' $f
		done
		rm -f /tmp/listed; read end`, unix.SYS_FINIT_MODULE)
	var stdout, stderr lockedBuffer
	container := program("run", "--log-level", "info", "--config", s.config(), "--", "sh", "-c", script)
	container.Stdout, container.Stderr = &stdout, &stderr
	end, err := container.StdinPipe()
	if err := errors.Join(err, container.Start()); err != nil {
		t.Fatal(err)
	}
	// A plugin logs what was written to its pipe when it comes to that, and not what was written when it is ended.
	eventually(t, "the plugins have logged the calls", func() bool {
		return strings.Contains(stderr.String(), "hello from the container") && strings.Contains(stderr.String(), "a module that is not allowed")
	})
	end.Close()
	container.Wait() // the status of read is 1
	wantText(t, stdout.String(), "go.test\nkept\nwritten\nlisted: "+kernelSays(t, notModule)+"\nunlisted: Operation not permitted\n")
	wantNoRefusal(t, stderr.String())

	s.write(t, strings.Replace(plugins, `syscalls = ["finit_module", "setns"]`, `syscalls = ["setns"]`, 1))
	r := intercede(t, "check", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("check: status %d", r.status)
	}
	wantText(t, r.stderr, "plugins.modules.grant", "finit_module")
}

// TestExamplesConform has the examples pass what every plugin must.
func TestExamplesConform(t *testing.T) {
	dir := buildExamples(t)
	for name, setting := range map[string]string{
		"hostname": "name=x", "hostname_python": "name=x", "kmsg": "read=true", "modules": `allowed=["` + strings.Repeat("0", 64) + `"]`,
	} {
		t.Run(name, func(t *testing.T) {
			r := intercede(t, "plugin", "test", filepath.Join(dir, "intercede-plugin-"+name), "--set", setting)
			if r.status != 0 || strings.Contains(r.stdout, "FAIL") {
				t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
			}
		})
	}
}

// TestExampleInPython has the plugin in Python in production, with a sum of the one file that it is.
func TestExampleInPython(t *testing.T) {
	path := filepath.Join(buildExamples(t), "intercede-plugin-hostname_python")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	config := func(sum string) string {
		return fmt.Sprintf("[plugins.hostname_python]\npath = %q\nsha256 = %q\ngrant = { syscalls = [\"socket\"] }\n"+
			"[plugins.hostname_python.config]\nname = \"python.test\"\n", path, sum)
	}
	s := newSite(t, config(hex.EncodeToString(sum[:])))
	for _, command := range []string{"uname -n", "sleep 0.1; uname -n"} { // it ends well in each
		r := intercede(t, "run", "--config", s.config(), "--", "sh", "-c", command)
		if r.stdout != "python.test\n" || strings.Contains(r.stderr, `"warn"`) || strings.Contains(r.stderr, `"error"`) {
			t.Errorf("%q: %s", r.stdout, r.stderr)
		}
	}
	s.write(t, config(strings.Repeat("0", 64)))
	wantText(t, intercede(t, "check", "--config", s.config()).stderr, "sha256 is "+hex.EncodeToString(sum[:]))
}

// TestPluginWithoutController has that plugin without the service by which go-plugin ends plugins, and without the
// health check: it ends by its lifeline, and nothing is logged about that.
func TestPluginWithoutController(t *testing.T) {
	require(t, "make", "protoc", "/usr/bin/python3")
	dir := filepath.Join(binaries, "uncontrolled")
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustRun(t, exec.Command("sh", "-ec", `cp -r ../../examples/hostname-python "$1"; cp ../../sdk/proto/plugin.proto "$1/hostname-python"
		cd "$1/hostname-python"
		sed -i 's/"plugin.GRPCController"/"another.Controller"/; s/"grpc.health.v1.Health"/"another.Health"/' src/intercede.py
		make -s PROTO=./plugin.proto OUT=plugin`, "sh", dir))
	s := newSite(t, fmt.Sprintf("[plugins.hostname_python]\npath = %q\n[plugins.hostname_python.config]\nname = \"python.test\"\n",
		dir+"/hostname-python/plugin"))
	r := intercede(t, "run", "--config", s.config(), "--", "uname", "-n")
	if r.stdout != "python.test\n" || strings.Contains(r.stderr, `"warn"`) || strings.Contains(r.stderr, `"error"`) {
		t.Errorf("%q: %s", r.stdout, r.stderr)
	}
}

// wantNoRefusal fails if the sandbox refused a plugin a system call.
func wantNoRefusal(t *testing.T, log string) {
	t.Helper()
	if strings.Contains(log, "the sandbox refused") {
		t.Errorf("a plugin was refused a system call: %s", log)
	}
}

// kernelSays is this kernel's error for a file that is not a module: ENOEXEC, or ENOSYS where it has no modules.
func kernelSays(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	errno, failed := unix.FinitModule(int(file.Fd()), "", 0).(unix.Errno)
	if !failed {
		t.Fatal("the kernel loads what is not a module")
	}
	return strings.ToUpper(errno.Error()[:1]) + errno.Error()[1:] // as strerror(3) does
}
