#!/bin/sh
# Checks the units with systemd's own tools, without a running systemd and without the binary: on a copy
# whose ExecStart is a program that exists. Prints what is wrong and exits 1; needs no root.
set -eu

# systemd rates what a unit may do from 0 to 10; ours must not be above this (in tenths).
exposure_max=15

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo "systemd/verify.sh: NOTICE: systemd-analyze is missing here, the units were not checked"
    exit 0
fi

here=$(cd "$(dirname "$0")" && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
program=$(command -v true)

fail() {
    echo "systemd/verify.sh: $*" >&2
    exit 1
}

# `verify` exits 0 on unknown keys and bad values and only prints them, so silence is required too.
silent() {
    out=$("$@" 2>&1) && [ -z "$out" ]
}

for unit in loggos.service loggos@.service; do
    grep -q '^ExecStart=/usr/local/bin/loggos serve ' "$here/$unit" ||
        fail "$unit: ExecStart must be /usr/local/bin/loggos serve"
    sed "s|^ExecStart=/usr/local/bin/loggos |ExecStart=$program |" "$here/$unit" >"$copy/$unit"
    silent systemd-analyze verify --man=no "$copy/$unit" || fail "$unit: $out"
    out=$(systemd-analyze security --no-pager --offline=true \
        --threshold="$exposure_max" "$copy/$unit" 2>&1) ||
        fail "$unit: above the exposure allowed: $(printf '%s\n' "$out" | tail -n 1)"
    printf '%s\n' "$out" | sed -n "s|.*Overall exposure level for [^:]*: \([0-9.]*\) .*|$unit: verified, exposure \1|p"
done

# The check itself must be able to fail: on a key that does not exist.
sed 's|^UMask=.*|UMaskk=0077|' "$copy/loggos.service" >"$copy/broken.service"
if silent systemd-analyze verify --man=no "$copy/broken.service"; then
    fail "systemd-analyze let an unknown key pass: this check is worth nothing here"
fi

# The two units differ in nothing but which node they start.
differing='^#|^Description=|^ExecStart=|^StateDirectory='
for unit in loggos.service loggos@.service; do
    grep -Ev "$differing" "$here/$unit" >"$copy/$unit.common"
done
diff "$copy/loggos.service.common" "$copy/loggos@.service.common" ||
    fail "the units differ in more than description, command and directory"

if systemd-sysusers --help 2>/dev/null | grep -q -e --dry-run; then
    mkdir "$copy/root"
    out=$(systemd-sysusers --root="$copy/root" --dry-run "$here/loggos.sysusers.conf" 2>&1) ||
        fail "loggos.sysusers.conf: $out"
    echo "loggos.sysusers.conf: verified"
fi
