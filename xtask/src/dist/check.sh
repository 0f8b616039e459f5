#!/bin/bash
# Installs the package in a clean Debian, runs it, removes and purges it. Its namespaces (mount, network,
# process) are its own; the BPF file system, too.
set -euo pipefail
package=$1 place=$2 base=$3 unit=$4
root=$place/root

fail() {
    echo "tfo: dist: $*" >&2
    exit 1
}
step() { echo "tfo: dist: $*"; }
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
# What dpkg itself keeps when a package comes or goes is no file of the package's.
files() {
    (cd "$root" && find . -xdev -not -path './var/log/*' -not -path './var/lib/dpkg/*-old' \
        -not -path './var/cache/*' -not -path './run/*' | sort)
}
attached() { ip -details link show dev server0 | grep -q 'prog/xdp'; }

mount --make-rprivate /
mount -t proc proc /proc
rm -rf "$root"
mkdir "$root"
mount -t tmpfs -o mode=755 tmpfs "$root"
tar -C "$root" -xf "$base"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs tmpfs "$root/run"

ip link set lo up
ip link add client0 type veth peer name server0
ip link set client0 up
ip link set server0 up
ip addr add 192.0.2.1/24 dev server0

files >"$place/before"
cp "$package" "$root/run/tfo.deb"
step "install"
inside dpkg --install /run/tfo.deb >/dev/null
inside tfo --version
[ -z "$(find "$root/etc/systemd" -name 'tfo.service')" ] || fail "the service is enabled"
# By this machine's systemd, which has the targets; the program is in the clean system.
sed "s|/usr/bin/tfo |$root/usr/bin/tfo |" "$unit" >"$root/run/tfo.service"
systemd-analyze verify --man=no "$root/run/tfo.service" >"$place/verify" 2>&1 || true
[ ! -s "$place/verify" ] || fail "systemd-analyze verify: $(cat "$place/verify")"
inside bash -n /usr/share/bash-completion/completions/tfo

step "doctor"
status=0
inside tfo doctor server0 || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "tfo doctor ended with $status"

step "run"
# The example, with this interface.
sed -i 's/^interfaces = .*/interfaces = ["server0"]/' "$root/etc/tfo/tfo.toml"
inside setpriv --bounding-set="-all,+bpf,+net_admin,+perfmon" --no-new-privs \
    tfo run -c /etc/tfo/tfo.toml >"$place/run.log" 2>&1 &
running=$!
for _ in $(seq 200); do
    attached && break
    kill -0 "$running" 2>/dev/null || fail "tfo run ended: $(cat "$place/run.log")"
    sleep 0.05
done
attached || fail "not attached after 10 s: $(cat "$place/run.log")"
inside tfo stats --check || fail "tfo stats"
inside tfo keys rotate
kill -TERM "$(pgrep -P "$running" -x tfo || echo "$running")"
wait "$running" || fail "tfo run ended with $?: $(cat "$place/run.log")"
attached || fail "the data path went with the service"

step "install again, as an upgrade"
inside dpkg --install /run/tfo.deb >/dev/null
attached || fail "an upgrade detached"

step "remove, with another network namespace attached"
mkdir "$root/run/netns"
touch "$root/run/netns/blue"
unshare --net="$root/run/netns/blue" true
inside tfo attach lo --netns blue
inside dpkg --remove tfo >/dev/null
! attached || fail "still attached after the package is gone"
! nsenter --net="$root/run/netns/blue" ip link show dev lo | grep -q prog/xdp \
    || fail "still attached in another network namespace"
[ ! -e "$root/sys/fs/bpf/tfo" ] || fail "pins are left: $(ls -R "$root/sys/fs/bpf/tfo")"
[ -f "$root/etc/tfo/tfo.toml" ] || fail "the configuration went"

step "purge"
inside dpkg --purge tfo >/dev/null 2>&1
files >"$place/after"
diff "$place/before" "$place/after" || fail "files are left"
