#!/bin/bash
# Loads the image into a store of its own and runs it under podman, in namespaces of its own (mount, network, process),
# with three capabilities, a read-only root and the mounts of the compose file.
set -euo pipefail
image=$1 place=$2/container times=$3 compose=$4
. "$(dirname "$0")/common.sh"

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
# The container makes none of its own, but crun looks at what is there.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
rm -rf "$place"
mkdir -p "$place/run" /run/tfo
mount -t tmpfs tmpfs "$place"

ip link set lo up
# The compose file's interface.
ip link add client0 type veth peer name eth0
ip link set client0 up
ip link set eth0 up
ip addr add 192.0.2.1/24 dev eth0

by_podman() {
    podman --root "$place/store" --runroot "$place/runroot" --storage-driver vfs \
        --cgroup-manager cgroupfs --events-backend none "$@"
}
begin
name=$(by_podman load --quiet --input "$image" | sed -n 's/^Loaded image[^:]*: *//p')
[ -n "$name" ] || fail "podman loaded no image"
# In a network namespace of its own. It takes no mount and leaves nothing.
demo image by_podman run --rm --network none --cgroups disabled --read-only --no-hosts --privileged "$name"

confined() {
    by_podman run --rm --network host --cgroups disabled --read-only --no-hosts \
        --cap-drop ALL --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON --security-opt no-new-privileges "$@"
}
container() {
    confined --security-opt seccomp="$compose/seccomp.json" \
        -v /sys/fs/bpf:/sys/fs/bpf -v /run/tfo:/run/tfo -v "$compose/tfo.toml:/etc/tfo/tfo.toml:ro" "$@"
}
tfo() { container "$name" "$@"; }

step "image: $name, version"
tfo --version
step "image: doctor"
status=0
tfo doctor eth0 || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "tfo doctor ended with $status"

step "image: podman's own filter"
own() { confined -v /sys/fs/bpf:/sys/fs/bpf -v /run/tfo:/run/tfo "$@"; }
said=$(own "$name" attach eth0 2>&1) && fail "podman's own filter lets CAP_BPF call bpf(2): say so in the docs"
grep -q 'security-opt seccomp=' <<<"$said" || fail "no remedy: $said"
own --cap-add SYS_ADMIN "$name" attach eth0
tfo detach eth0

step "image: attach, and the pins outlive the container"
tfo attach eth0
tfo status | grep -q '^eth0 ' || fail "not attached: $(tfo status)"
tfo stats --check
tfo detach eth0

step "image: run, as the compose file has it"
container --name tfo-check "$name" >"$place/log" 2>&1 &
running=$!
for _ in $(seq 200); do
    tfo status 2>/dev/null | grep -q '^eth0 ' && break
    kill -0 "$running" 2>/dev/null || fail "the container ended: $(cat "$place/log")"
    sleep 0.1
done
tfo status | grep '^eth0 ' || fail "not attached after 20 s: $(cat "$place/log")"
curl --silent --fail http://127.0.0.1:9733/metrics | grep -q '^tfo_interface_attached.* 1$' \
    || fail "no metrics: $(cat "$place/log")"
by_podman exec tfo-check tfo --version || fail "exec"
by_podman kill --signal TERM tfo-check >/dev/null
wait "$running" || fail "the container ended with $?: $(cat "$place/log")"
tfo status | grep -q '^eth0 ' || fail "the data path went with the container"
tfo detach --all

step "image: rotate keys, privileged"
privileged() {
    by_podman run --rm --network host --cgroups disabled --read-only --no-hosts --privileged \
        -v /sys/fs/bpf:/sys/fs/bpf -v /run/tfo:/run/tfo "$name" "$@"
}
privileged attach eth0
! tfo keys rotate 2>/dev/null || fail "three capabilities were enough to write a key: say so in the docs"
key=$(cat /proc/sys/net/ipv4/tcp_fastopen_key)
privileged keys rotate
[ "$key" != "$(cat /proc/sys/net/ipv4/tcp_fastopen_key)" ] || fail "the kernel's key is the same after a rotation"
tfo detach --all
