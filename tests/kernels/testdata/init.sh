# The first process of a machine without systemd. As there, the tests are in a cgroup below one that is
# delegated to them.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -o remount,rw /payload # tests change their own program's mode
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
modprobe fuse 2>/dev/null
mount -t fusectl fusectl /sys/fs/fuse/connections
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
hostname small
ip link set lo up
mkdir -p /sys/fs/cgroup/tests/main
echo $$ >/sys/fs/cgroup/tests/main/cgroup.procs
setfattr -n trusted.delegate -v 1 /sys/fs/cgroup/tests
for folder in /sys/fs/cgroup /sys/fs/cgroup/tests; do
	for controller in $(cat $folder/cgroup.controllers); do echo "+$controller" >$folder/cgroup.subtree_control; done
done
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do ln -s "/dev/${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"; done
ulimit -n 524288
bash /payload/guest.sh
sync
echo o >/proc/sysrq-trigger
sleep 60
