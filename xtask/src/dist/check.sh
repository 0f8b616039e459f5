#!/bin/bash
# Installs the package in a clean Debian, runs it, removes and purges it.
set -euo pipefail
package=$1 place=$2 times=$3 base=$4 unit=$5
. "$(dirname "$0")/clean.sh"

files >"$place/before"
cp "$package" "$root/run/tfo.deb"
step "install"
begin
inside dpkg --install /run/tfo.deb >/dev/null
demo deb inside tfo
# By this machine's systemd, which has the targets; the program is in the clean system.
sed "s|/usr/bin/tfo |$root/usr/bin/tfo |" "$unit" >"$root/run/tfo.service"
systemd-analyze verify --man=no "$root/run/tfo.service" >"$place/verify" 2>&1 || true
[ ! -s "$place/verify" ] || fail "systemd-analyze verify: $(cat "$place/verify")"
try

step "install again, as an upgrade"
inside dpkg --install /run/tfo.deb >/dev/null
attached || fail "an upgrade detached"

step "remove, with another network namespace attached"
attach_blue
inside dpkg --remove tfo >/dev/null
detached
[ -f "$root/etc/tfo/tfo.toml" ] || fail "the configuration went"

step "purge"
inside dpkg --purge tfo >/dev/null 2>&1
files >"$place/after"
diff "$place/before" "$place/after" || fail "files are left"
