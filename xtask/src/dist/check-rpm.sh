#!/bin/bash
# Installs the .rpm by this machine's rpm in a clean system, runs it and removes it. The clean system is a Debian: it has
# the shell that the package's scripts ask for, but not in rpm's database, so rpm checks no dependency.
set -euo pipefail
package=$1 place=$2 times=$3 base=$4
. "$(dirname "$0")/clean.sh"

# Debian's rpm keeps its database in the home folder, and warns of itself.
by_rpm() { rpm --root "$root" --nodeps --force-debian "$@"; }

files >"$place/before"
step "rpm: install"
begin
by_rpm --install "$package"
demo rpm inside tfo
by_rpm --verify tfo
try

step "rpm: install again, as an upgrade"
by_rpm --upgrade --force "$package"
attached || fail "an upgrade detached"
grep -q server0 "$root/etc/tfo/tfo.toml" || fail "an upgrade replaced the configuration"

step "rpm: remove, with another network namespace attached"
attach_blue
by_rpm --erase tfo
detached
# rpm keeps a changed configuration.
mv "$root/etc/tfo/tfo.toml.rpmsave" "$root/etc/tfo/tfo.toml" || fail "the configuration went"
rm -r "$root/etc/tfo"
files >"$place/after"
diff "$place/before" "$place/after" || fail "files are left"
