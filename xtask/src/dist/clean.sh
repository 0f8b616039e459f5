# Sourced by the checks of packages: a clean Debian in $root, with namespaces of its own (mount, network, process), a
# BPF file system of its own, and a veth pair. The caller has set $place, a folder for what is noted, $base, the archive
# of the clean Debian, and $times.

. "$(dirname "$0")/common.sh"
root=$place/root

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
# What the package managers themselves keep when a package comes or goes is no file of the package's.
files() {
    (cd "$root" && find . -xdev -not -path './var/log/*' -not -path './var/lib/dpkg/*-old' \
        -not -path './root/.rpmdb*' -not -path './usr/share/licenses' -not -path './var/cache/*' -not -path './run/*' | sort)
}
# The number of the program that is attached to an interface, $1; nothing if there is none.
program() { inside tfo status "${@:2}" 2>/dev/null | awk -v name="$1" '$1 == name { print $4 }'; }
attached() { [ -n "$(program server0)" ]; }

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

# The service's program with the example configuration, by the commands that an operator starts with.
try() {
    [ -z "$(find "$root/etc/systemd" -name 'tfo.service')" ] || fail "the service is enabled"
    inside tfo --version
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
}

# Attaches in a second network namespace, whose programs the package has to detach as well.
attach_blue() {
    mkdir "$root/run/netns"
    touch "$root/run/netns/blue"
    unshare --net="$root/run/netns/blue" true
    inside tfo attach lo --netns blue
    before="$(program server0) $(program lo --netns blue)"
    [ "$(wc -w <<<"$before")" = 2 ] || fail "not attached in both namespaces: $before"
}

# Fails if the removal of the package left something attached or pinned. The kernel frees programs a moment later.
detached() {
    [ ! -e "$root/sys/fs/bpf/tfo" ] || fail "pins are left: $(ls -R "$root/sys/fs/bpf/tfo")"
    for id in $before; do
        for _ in $(seq 200); do
            bpftool prog show id "$id" >/dev/null 2>&1 || continue 2
            sleep 0.05
        done
        fail "program $id is still attached after the package is gone"
    done
}
