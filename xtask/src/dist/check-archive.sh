#!/bin/bash
# Runs the archive's program in a root of nothing but the archive's files and the kernel's file systems: no shell, no library.
set -euo pipefail
archive=$1 place=$2 times=$3
. "$(dirname "$0")/common.sh"

root=$place/archive-root
mount --make-rprivate /
mount -t proc proc /proc
rm -rf "$root"
mkdir "$root"
mount -t tmpfs -o mode=755 tmpfs "$root"

begin
tar -C "$root" --strip-components=1 -xzf "$archive"
mkdir "$root/dev" "$root/proc" "$root/sys"
mount -t devtmpfs devtmpfs "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
inside() { env -i "$(type -P chroot)" "$root" /usr/bin/tfo "$@"; }
demo archive inside
step "archive: doctor"
status=0
inside doctor || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "tfo doctor ended with $status"
