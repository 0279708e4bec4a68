package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/intercede/intercede/sdk/sdktest"
)

const mountDev = both + "[oci_runtime]\nmount_dev = true\n"

// useNodes makes device nodes in /dev, opens, renames and removes them.
const useNodes = `cd /dev
	mknod -m 640 x c 1 3 && busybox rm x && echo removed
	mknod x c 1 3 && busybox mv x y && echo renamed
	echo text >y && stat -c 'node %t:%T %a %u:%g' y
	busybox rm y && echo gone
	echo ready; read -r line
	exit 0
`

// describeDev lists /dev, with types, modes, owners, device numbers and where links lead, and all mounts.
const describeDev = `busybox find /dev | busybox sort | while read file; do stat -c '%N %F %a %u:%g %t:%T' "$file"; done
	busybox cut -d ' ' -f 1-4 /proc/mounts | busybox sort
	stat -c '%a' /dev/console 2>/dev/null
	echo ready; read -r line
	exit 0
`

// runOnTerminal runs the container with a terminal, and returns what that shows until "ready". The script then waits
// for a line: what is written just before a container ends, crun may lose.
func (b *bundle) runOnTerminal(t *testing.T) string {
	t.Helper()
	cmd := b.cmd("run", b.id)
	cmd.Stdin = nil
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var shown strings.Builder
	for lines := bufio.NewReader(terminal); !strings.HasSuffix(shown.String(), "ready\n"); {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Errorf("the terminal ends with %v after\n%s", err, shown.String())
			break
		}
		shown.WriteString(strings.TrimRight(line, "\r\n") + "\n")
	}
	fmt.Fprintln(terminal)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, shown.String())
	}
	return shown.String()
}

func setTerminal(spec map[string]any) { spec["process"].(map[string]any)["terminal"] = true }

func setReadOnly(spec map[string]any) { spec["root"].(map[string]any)["readonly"] = true }

// engineMounts are what engines mount below /dev, and what users have them mount there.
func engineMounts(spec map[string]any) {
	spec["mounts"] = append(spec["mounts"].([]any),
		map[string]any{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
			"options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		map[string]any{"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
			"options": []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		map[string]any{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": []string{"nosuid", "noexec", "nodev"}},
		map[string]any{"destination": "/dev/deep/zero", "type": "bind", "source": "/dev/zero", "options": []string{"bind"}})
	spec["linux"].(map[string]any)["devices"] = []any{
		map[string]any{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 3, "gid": 5}}
}

// A node that is made in /dev is not a mount, and can be removed. That is the only difference that the setting makes.
func TestWrapperMountsDev(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, mountDev)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, useNodes)
		for range 2 { // the bundle can be started again
			wantText(t, mustRun(t, b.cmd("run", b.id)), "removed\nrenamed\nnode 1:3 644 0:0\ngone\n")
			b.wantClean(t)
		}
		s.write(t, both)
		r := runCmd(t, b.cmd("run", b.id))
		wantText(t, r.stdout+r.stderr, "can't remove 'x': ", "busy")
		b.wantClean(t)
	})
}

// wantClean makes sure that the bundle has its mount on /dev, and that nothing is left in it or mounted on it.
func (b *bundle) wantClean(t *testing.T) {
	t.Helper()
	var spec struct {
		Mounts []struct{ Destination, Type string }
	}
	if err := json.Unmarshal([]byte(b.spec(t)), &spec); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(spec.Mounts, struct{ Destination, Type string }{"/dev", "tmpfs"}) {
		t.Errorf("config.json has no mount on /dev: %s", b.spec(t))
	}
	for _, pattern := range []string{b.dir + "/.config*", b.dir + "/rootfs/dev/*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("this is left: %s", left)
		}
	}
	if mounts := readText(t, "/proc/self/mounts"); strings.Contains(mounts, b.dir) {
		t.Errorf("mounted on the host:\n%s", mounts)
	}
}

// All that a container sees of /dev is the same: devices, links, console, and mounts with their flags.
func TestWrapperMountsTheSameDev(t *testing.T) {
	for name, change := range map[string]func(spec map[string]any){
		"plain":     func(map[string]any) {},
		"engine":    engineMounts,
		"terminal":  func(spec map[string]any) { engineMounts(spec); setTerminal(spec) },
		"read-only": func(spec map[string]any) { engineMounts(spec); setReadOnly(spec); setTerminal(spec) },
		"noexec": func(spec map[string]any) {
			spec["mounts"].([]any)[1].(map[string]any)["options"] = []string{"noexec", "noatime", "mode=0755", "size=1m", "nr_inodes=99"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, runtime string) {
				s := newSite(t, both)
				s.serve(t)
				b := s.newWrappedBundle(t, runtime, describeDev)
				b.edit(t, change)
				run := func() string { return mustRun(t, b.cmd("run", b.id)) }
				if strings.Contains(b.spec(t), `"terminal":true`) {
					run = func() string { return b.runOnTerminal(t) }
				}
				without := run()
				s.write(t, mountDev)
				with := run()
				if with != without {
					t.Errorf("with mount_dev\n%s\nand without\n%s", with, without)
				}
				wantText(t, with, "/dev/null character special file", "'/dev/ptmx' -> 'pts/ptmx'", "tmpfs /dev tmpfs rw,", "ready\n")
				b.edit(t, func(spec map[string]any) {
					spec["process"].(map[string]any)["args"] = []string{"/bin/sh", "-c", useNodes}
				})
				wantText(t, run(), "removed\nrenamed\nnode 1:3 644 0:0\ngone\n")
			})
		})
	}
}

// While the container is there, nothing of it is mounted on the host, and sessions of exec see its /dev.
func TestWrapperMountsDevAlone(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, mountDev)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "mknod /dev/null2 c 1 3 && echo ready; exec sleep 1000")
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		b.wantClean(t)
		mustRun(t, b.cmd("start", b.id))
		b.said(t, "ready\n")
		wantText(t, mustRun(t, b.cmd("exec", b.id, "/bin/sh", "-c", "stat -c 'node %t:%T' /dev/null2; "+useNodes)),
			"node 1:3\nremoved\nrenamed\n")
		b.wantClean(t)
		mustRun(t, b.cmd("kill", b.id, "KILL"))
	})
}

// Containers that share a user namespace, as those of one pod do.
func TestWrapperMountsDevOfPod(t *testing.T) {
	sdktest.RequireKernel(t, "6.3", "idmapped mounts of tmpfs")
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, mountDev)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "exec sleep 1000")
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		joined := s.newWrappedBundle(t, runtime, useNodes)
		joined.edit(t, func(spec map[string]any) {
			linux := spec["linux"].(map[string]any)
			linux["namespaces"].([]any)[0].(map[string]any)["path"] = fmt.Sprintf("/proc/%d/ns/user", b.pid(t))
		})
		wantText(t, mustRun(t, joined.cmd("run", joined.id)), "removed\nrenamed\nnode 1:3 644 0:0\ngone\n")
		mustRun(t, b.cmd("kill", b.id, "KILL"))
	})
}

// On a host whose mounts are shared, as systemd makes them, the runtime's are not, and neither are those of its hooks,
// which see what the host mounts.
func TestWrapperMountsDevOnSharedHost(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		s := newSite(t, mountDev)
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, "exec sleep 1000")
		hook := map[string]any{"path": "/bin/sh", "args": []string{"sh", "-ec", `mount -t tmpfs hook "$1"; touch "$1/ran"
			grep -q " $2 tmpfs" /proc/self/mounts; touch "$3"`, "sh", b.dir + "/rootfs/tmp", b.dir + "/rootfs/dev", b.dir + "/hooked"}}
		b.edit(t, func(spec map[string]any) { spec["hooks"] = map[string]any{"createRuntime": []any{hook}} })
		inner := b.command
		wrapper := inner[slices.Index(inner, filepath.Join(binaries, "intercede")):]
		b.command = append([]string{"unshare", "-m", "--propagation", "private", "sh", "-c",
			`umount /sys/fs/cgroup/unified 2>/dev/null # for crun, see runtimes
			mount --make-rshared /; "$@"; status=$?; cat /proc/self/mounts >"$0"; exit $status`, b.dir + "/mounts"}, wrapper...)
		if err := b.create(t); err != nil {
			t.Fatalf("create: %v: %s", err, b.output(t))
		}
		b.command = inner
		if _, err := os.Stat(b.dir + "/hooked"); err != nil {
			t.Errorf("the hook has not seen the runtime's mounts: %v", err)
		}
		if mounts := readText(t, b.dir+"/mounts"); strings.Contains(mounts, b.dir) {
			t.Errorf("mounted on the host:\n%s", mounts)
		}
		b.wantClean(t)
	})
}

// pid is the container's first process.
func (b *bundle) pid(t *testing.T) int {
	t.Helper()
	var state struct{ Pid int }
	if err := json.Unmarshal([]byte(mustRun(t, b.cmd("state", b.id))), &state); err != nil {
		t.Fatal(err)
	}
	return state.Pid
}

// After a runtime that fails nothing is left.
func TestWrapperMountsDevForNothing(t *testing.T) {
	for name, change := range map[string]func(spec map[string]any){
		"a program that is not there": func(spec map[string]any) {
			spec["process"].(map[string]any)["args"] = []string{"/nonexistent"}
		},
		"a mount that fails": func(spec map[string]any) {
			spec["mounts"] = append(spec["mounts"].([]any), map[string]any{
				"destination": "/dev/x", "type": "bind", "source": "/nonexistent", "options": []string{"bind"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, runtime string) {
				s := newSite(t, mountDev)
				s.serve(t)
				b := s.newWrappedBundle(t, runtime, "true")
				b.edit(t, change)
				if r := runCmd(t, b.cmd("run", b.id)); r.status == 0 {
					t.Errorf("it ran: %+v", r)
				}
				b.wantClean(t)
			})
		})
	}
}

// What the wrapper cannot mount, the runtime does: the container is as without the setting, and the log says so.
func TestWrapperLeavesDev(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, b *bundle)
		want   string // in the log
	}{
		"another mount": {func(t *testing.T, b *bundle) {
			b.edit(t, func(spec map[string]any) {
				spec["mounts"].([]any)[1].(map[string]any)["options"] = []string{"mode=755", "uid=0"}
			})
		}, `the mount on /dev: it has the option \"uid=0\"`},
		"a link": {func(t *testing.T, b *bundle) {
			mustRun(t, exec.Command("sh", "-ec", `rmdir "$1/dev"; ln -s tmp "$1/dev"`, "sh", b.dir+"/rootfs"))
		}, "which has to be a directory"},
		"a bundle that is read-only": {func(t *testing.T, b *bundle) {
			b.edit(t, func(spec map[string]any) { spec["root"] = map[string]any{"path": b.dir + "/rootfs"} })
			mustRun(t, b.cmd("run", b.id)) // the filter is in config.json by then
			mustRun(t, exec.Command("sh", "-ec", `mkdir "$1/ro"; mv "$1/config.json" "$1/ro"`, "sh", b.dir))
			b.command = append([]string{"unshare", "-m", "--propagation", "private", "sh", "-ec",
				`mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; cd "$0"; exec "$@"`, b.dir + "/ro"}, b.command...)
		}, "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, mountDev)
			s.serve(t)
			b := s.newWrappedBundle(t, "runc", "mknod /dev/x c 1 3; busybox rm /dev/x; echo ready")
			test.change(t, b)
			r := runCmd(t, b.cmd("run", b.id))
			wantText(t, r.stdout+r.stderr, "busy", "ready\n")
			wantText(t, readText(t, b.dir+"/log"), `"level":"warning"`, "/dev of the container is left to the runtime", test.want)
		})
	}
}

// Containers that get no nodes made keep the tmpfs of their runtime.
func TestWrapperLeavesDevOfOthers(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n[oci_runtime]\nmount_dev = true\n")
	s.serve(t)
	b := s.newWrappedBundle(t, "runc", "busybox mount -t tmpfs -o remount,size=1m tmpfs /dev && echo its own\n"+
		"busybox mount -o bind / /tmp && echo bound without it")
	b.edit(t, func(spec map[string]any) { addCapability(spec, "CAP_SYS_ADMIN") })
	wantText(t, mustRun(t, b.cmd("run", b.id)), "its own\nbound without it\n")
}

func addCapability(spec map[string]any, name string) {
	sets := spec["process"].(map[string]any)["capabilities"].(map[string]any)
	for _, set := range []string{"bounding", "effective", "permitted"} {
		sets[set] = append(sets[set].([]any), name)
	}
}

// What the owner of a superblock could do, and root of the container tries: it has what it has on its root filesystem.
func TestWrapperMountsDevSafely(t *testing.T) {
	eachRuntime(t, func(t *testing.T, runtime string) {
		// The device cgroups of this host may be of version 1, which do not count as ones that deny.
		s := newSite(t, mountDev+"[plugins.mknod.config]\ndevices = [\"c 1:3\", \"c 1:11\"]\nrequire_device_cgroup = false\n")
		s.serve(t)
		b := s.newWrappedBundle(t, runtime, `cd /dev
			mknod mem c 1 1 || echo not listed
			mknod kmsg c 1 11 && busybox chmod 666 kmsg && busybox chown 5:5 kmsg && stat -c 'node %t:%T %a %u:%g' kmsg
			busybox head -c 1 kmsg || echo not opened
			busybox ln kmsg link && busybox head -c 1 link || echo not opened by a link
			busybox chown 70000 kmsg || echo not given away
			busybox mount -o remount,bind,suid /dev || echo no suid
			busybox mount -t tmpfs -o remount,size=1m tmpfs /dev || echo no size
			busybox umount -l /dev || echo not unmounted
			busybox mount -o bind / /tmp || echo not bound without it
			busybox mount -o rbind / /tmp && busybox umount -l /tmp || echo not bound
			echo ready`)
		b.edit(t, func(spec map[string]any) {
			addCapability(spec, "CAP_SYS_ADMIN")
			// As engines have it. crun denies nothing by itself.
			resources := spec["linux"].(map[string]any)["resources"].(map[string]any)
			resources["devices"] = []any{map[string]any{"allow": false, "access": "rwm"}}
		})
		r := runCmd(t, b.cmd("run", b.id))
		wantText(t, r.stdout, "not listed\nnode 1:b 666 5:5\nnot opened\nnot opened by a link\nnot given away\n"+
			"no suid\nno size\nnot unmounted\nnot bound without it\nready\n")
		wantText(t, r.stderr, "mem: Operation not permitted", "kmsg: Operation not permitted")
	})
}
