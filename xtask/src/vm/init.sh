#!/bin/busybox sh
# The first process of a guest: mounts the host's files, with a layer in memory above them, and becomes
# the script that the kernel's command line names.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r module; do
    $b insmod "/modules/$module" || echo "tfo: vm: cannot load $module"
done < /modules/order
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /host
$b mount -t tmpfs -o size=50% memory /memory
$b mkdir -p /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
script=$($b sed -n 's/.*tfo_script=\([^ ]*\).*/\1/p' /proc/cmdline)
for directory in dev proc sys tmp run lib/modules; do
    $b mkdir -p "/root/$directory"
done
$b mount -t devtmpfs dev /root/dev
$b mkdir -p /root/dev/pts
$b mount -t devpts devpts /root/dev/pts
$b mount -t proc proc /root/proc
$b mount -t sysfs sys /root/sys
$b mount -t tmpfs run /root/run
$b mkdir -p "/root/lib/modules/$($b uname -r)"
exec $b switch_root /root /bin/sh -c ". $script; echo o > /proc/sysrq-trigger; while :; do :; done"
