#!/bin/busybox sh
# The first process of a guest: mounts files of the host, with a layer in memory above them, and becomes the script that
# the kernel's command line names.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r module; do
    $b insmod "/modules/$module" || echo "tfo: vm: cannot load $module"
done < /modules/order
$b mount -t tmpfs -o size=50% memory /memory

# The value of a name on the kernel's command line.
told() { $b sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# Mounts what the host shares by a tag.
share() {
    $b mkdir -p "/memory/$1/lower" "/memory/$1/upper" "/memory/$1/work" "$2"
    $b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose "$1" "/memory/$1/lower"
    $b mount -t overlay -o "lowerdir=/memory/$1/lower,upperdir=/memory/$1/upper,workdir=/memory/$1/work" "$1" "$2"
}
share system /root
share repository "/root$(told tfo_repository)"
script=$(told tfo_script)
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
