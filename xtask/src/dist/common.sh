# Sourced by all checks. The caller sets $times, the file for what `tfo demo` took.

fail() {
    echo "tfo: dist: $*" >&2
    exit 1
}
step() { echo "tfo: dist: $*"; }
begin() { began=$EPOCHREALTIME; }
# Runs `tfo demo` by the command $2..., and notes for the artefact $1 the seconds since `begin` until it was installed and
# until the demonstration had compared the counters.
demo() {
    local name=$1 installed=$EPOCHREALTIME
    shift
    step "$name: demo"
    "$@" demo || fail "tfo demo ended with $?"
    awk -v name="$name" -v began="$began" -v installed="$installed" -v ended="$EPOCHREALTIME" \
        'BEGIN { printf "%s %.1f %.1f\n", name, installed - began, ended - began }' >>"$times"
}
