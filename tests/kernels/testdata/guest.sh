# What the machine runs, as a unit of systemd: the programs as an operator has them, then the tests' binaries. Each step
# is a line "=== NAME", its output, and a line "=== NAME STATUS SECONDS". The host reads them from this port.
for ((i = 0; i < 1200; i++)); do # udev makes it when it comes to that
	[ ! -c /dev/virtio-ports/results ] || break
	sleep 0.1
done
exec >/dev/virtio-ports/results 2>&1 </dev/null || exit 1
cd /payload
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. ./settings # LIMIT: the seconds that a step may take; KIND: too-old where the programs refuse the kernel, small without systemd
export INTERCEDE_TEST_CGROUPS=2 INTERCEDE_TEST_PROCESSORS=1 INTERCEDE_TEST_KERNEL=$(uname -r)

step() {
	name=$1 began=$(cut -d. -f1 /proc/uptime)
	shift
	echo "=== $name"
	timeout -k 10 "$LIMIT" "$@" 2>&1 </dev/null
	status=$?
	echo
	echo "=== $name $status $(($(cut -d. -f1 /proc/uptime) - began))"
}

step_sh() { step "$1" bash -euo pipefail -c "$2"; }

# The runtimes' containers: busybox, and a program that makes a device node.
bundle() {
	mkdir -p /srv/box/rootfs/{bin,dev,proc,sys,tmp}
	cp /bin/busybox /srv/box/rootfs/bin/
	for name in sh mknod ls free test rm cat; do ln -sf busybox /srv/box/rootfs/bin/$name; done
	cat >/srv/box/rootfs/bin/try <<-'END'
		#!/bin/sh
		rm -f /tmp/zero
		mknod /tmp/zero c 1 5 && test -c /tmp/zero && ls -l /tmp/zero && free
	END
	chmod 755 /srv/box/rootfs/bin/try
	chown -R 100000:100000 /srv/box/rootfs
	runc spec --bundle /srv/box
	ids='[{"containerID": 0, "hostID": 100000, "size": 65536}]'
	jq ".linux.namespaces += [{\"type\": \"user\"}] | .linux.uidMappings = $ids | .linux.gidMappings = $ids
		| .process.capabilities[] += [\"CAP_MKNOD\"] | .process.terminal = false | .process.args = [\"try\"] | del(.process.rlimits)
		| .linux.resources = {memory: {limit: 67108864}} | .root.readonly = false" /srv/box/config.json >/srv/box/plain.json
}

# run RUNTIME ARGUMENT...: a container by the wrapper, with 64 MiB.
mkdir -p /usr/local/bin
cat >/usr/local/bin/in-box <<'END'
set -euo pipefail
runtime=$1
shift
sed -i "s/^runtime = .*/runtime = \"$runtime\"/" /etc/intercede/config.toml
intercede reload
cp /srv/box/plain.json /srv/box/config.json
[ "${1-}" != --systemd-cgroup ] || jq '.linux.cgroupsPath = "system.slice:x:box"' /srv/box/plain.json >/srv/box/config.json
intercede-runc "$@" run --bundle /srv/box "box-$runtime-$#" | tee /tmp/box.out
grep -q ' 1,  *5 ' /tmp/box.out
grep -q 'Mem: *65536' /tmp/box.out
END

# In a small machine no package is installed, and there is no OCI runtime.
install_package() {
	if [ "$(cat /proc/1/comm)" = systemd ]; then
		step install dpkg -i ./intercede.deb
	else
		step_sh install 'dpkg-deb --extract ./intercede.deb /
			sed -i "s|^runtime = .*|runtime = \"/bin/true\"|" /etc/intercede/config.toml'
	fi
}

small_steps() {
	install_package
	step doctor intercede doctor
	step check intercede check
	step_sh run "$container"
	step_sh memory "intercede run --memory 67108864 -- busybox free | tee /tmp/free; grep -q 'Mem: *65536' /tmp/free"
	step_sh priority "$priority"
}

# What a container of intercede run does, and a thread of it with a real-time priority.
container='intercede run -- sh -c "id; mknod /tmp/null c 1 3; test -c /tmp/null; setfattr -n trusted.overlay.opaque -v y /dev/shm"'
priority='sed -i "/^\[plugins.sched\]/,/^enabled/s/^enabled.*/enabled = true/" /etc/intercede/config.toml
	intercede run -- chrt -f 10 true'

refused() {
	install_package
	step_sh refused 'intercede doctor && exit 1
		for command in "run -- true" serve "keep -- true" check reload upgrade status "why 1" trace "revoke x" "policy explain x" \
			"profile --format oci" "plugin list" "plugin run x -- true" "plugin test x"; do
			said=$(intercede $command 2>&1) && exit 1
			echo "$said"
			test "$(wc -l <<<"$said")" = 1
			grep -q "needs kernel 5.15 or later, and this is $(uname -r), .*: see .intercede doctor" <<<"$said"
		done
		intercede version'
}

steps() {
	step_sh runtimes 'systemctl --version | head -n 1; runc --version; crun --version; test "$(cat /proc/1/comm)" = systemd'
	install_package
	step doctor intercede doctor
	step check intercede check
	step_sh run "$container"
	step_sh memory 'seen=$(systemd-run --quiet --scope -p Delegate=yes intercede run --memory 67108864 -- busybox free); echo "$seen"
		grep -q "Mem: *65536" <<<"$seen"'
	step_sh priority "$priority"
	step_sh units 'systemctl enable --now intercede.socket intercede-fallback.socket intercede.service; intercede status; intercede doctor'
	step bundle bash -euo pipefail -c bundle
	for runtime in runc crun; do
		step $runtime bash /usr/local/bin/in-box $runtime
		step $runtime-systemd bash /usr/local/bin/in-box $runtime --systemd-cgroup
	done
	step_sh podman 'sed -i "s/^runtime = .*/runtime = \"crun\"/" /etc/intercede/config.toml; intercede reload
		rm -f /srv/box/rootfs/tmp/zero
		tar -C /srv/box/rootfs --owner=0 --group=0 -c . | podman import - box
		podman --runtime /usr/bin/intercede-runc run --rm --network=none --cap-add MKNOD --memory 64m \
			--uidmap 0:100000:65536 --gidmap 0:100000:65536 box try | tee /tmp/podman.out
		grep -q " 1,  *5 " /tmp/podman.out; grep -q "Mem: *65536" /tmp/podman.out'
	step_sh restart 'systemctl restart intercede; intercede status; systemctl stop intercede.socket intercede.service
		systemctl --failed --no-legend; test -z "$(systemctl --failed --no-legend)"'
}

tests() {
	while read -r name folder; do
		export INTERCEDE_TEST_PROGRAM=/payload/tests/$name.program
		if [ -d programs/$name ]; then # of the folders below tests: tests/stage
			export INTERCEDE_TEST_MACHINE=1
			mkdir -p /src && mount --bind programs/$name /src
		fi
		step "test $folder" env --chdir="src/$folder" "/payload/tests/$name.test" -test.v -test.timeout "${LIMIT}s"
	done <./tests/list
}

export -f bundle
modprobe -a loop fuse overlay squashfs ext4 2>/dev/null
step_sh machine 'uname -a; cat /proc/1/comm /proc/self/cgroup; test "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs'
case $KIND in
too-old) refused ;;
small) small_steps && tests ;;
*) steps && tests ;;
esac
[ "$(cat /proc/1/comm)" != systemd ] || step_sh log 'journalctl --no-pager --unit intercede --unit intercede-fallback | tail -n 40'
step_sh kernel 'dmesg | tail -n 20'
echo "=== done"
sync
