# initrd.sh ROOT INITRD: makes what mounts the disks and starts /payload/init.sh, of busybox and the modules of ROOT.
set -eu
root=$1 initrd=$2
version=$(ls "$root/lib/modules")
depmod -b "$root" "$version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/dev" "$work/proc" "$work/sys" "$work/root" "$work/modules"
cp "$root/bin/busybox" "$work/bin/"
i=100
for module in virtio_pci virtio_blk virtio_console virtio_rng crc32c_generic ext4; do
	modprobe -d "$root" -S "$version" --show-depends "$module" 2>/dev/null || true # newer kernels have some built in
done | sed -n 's/^insmod //p' | awk '!seen[$1]++ {print $1}' | while read -r file; do
	i=$((i + 1))
	case $file in
	*.xz) xz -dc "$file" ;;
	*.zst) zstd -dc "$file" ;;
	*) cat "$file" ;;
	esac >"$work/modules/$i.ko" # in the order in which they are loaded
done
cat >"$work/init" <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
until mount -t ext4 /dev/vda /root; do sleep 0.1; done
mount -t ext4 -o ro /dev/vdb /root/payload
mount -o move /dev /root/dev
umount /proc /sys
exec switch_root /root /bin/bash /payload/init.sh
END
chmod 755 "$work/init"
(cd "$work" && find . | cpio --quiet --format newc --create | gzip -1) >"$initrd"
