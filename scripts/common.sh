# Sourced by the other scripts: who builds, with which cargo, and how messages look.
# shellcheck shell=bash

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# All features of the packages but `rocksdb`, which needs a library that few have: scripts/rocksdb.sh.
# shellcheck disable=SC2034 # For those who source this.
all_features=sql,mutants,fake

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

note() {
    if [ -t 1 ]; then printf '\033[1m== %s\033[0m\n' "$*"; else echo "== $*"; fi
}

is_root() { [ "$(id -u)" = 0 ]; }

# The user on whose behalf we run: who called sudo, if the repository is theirs to write to.
# What root would build there, they could not build again.
builder=$(id -un)
if is_root && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] &&
    runuser -u "$SUDO_USER" -- test -w "$root_dir"; then
    builder=$SUDO_USER
fi
builder_home=$(getent passwd "$builder" | cut -d: -f6)

# Runs a command as the builder, with the builder's cargo in reach: sudo drops it from the PATH.
as_builder() {
    local cargo_bin=${CARGO_HOME:-$builder_home/.cargo}/bin
    if [ "$builder" = "$(id -un)" ]; then
        PATH=$PATH:$cargo_bin "$@"
    else
        runuser -u "$builder" -- env HOME="$builder_home" \
            PATH="$builder_home/.cargo/bin:/usr/local/bin:/usr/bin:/bin" "$@"
    fi
}

# The same in the place of this shell, so that signals reach the command itself.
become_builder() {
    if [ "$builder" = "$(id -un)" ]; then
        PATH=$PATH:${CARGO_HOME:-$builder_home/.cargo}/bin exec "$@"
    else
        exec runuser -u "$builder" -- env HOME="$builder_home" \
            PATH="$builder_home/.cargo/bin:/usr/local/bin:/usr/bin:/bin" "$@"
    fi
}

# Runs a command to its end, also when a signal asks for that, and returns its code. In the background,
# because a shell that waits for a program in the foreground lets no signal through; the command takes
# its network and processes down when one comes.
run_to_its_end() {
    local run code=0
    "$@" </dev/null &
    run=$!
    # shellcheck disable=SC2064 # The process is this one, whenever the signal comes.
    trap "kill -TERM $run 2>/dev/null || true" INT TERM HUP
    wait "$run" || code=$?
    while kill -0 "$run" 2>/dev/null; do
        code=0
        wait "$run" || code=$?
    done
    trap - INT TERM HUP
    return "$code"
}

# Installs Debian packages, if root; else says which.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        fail "missing here: $* (names of the Debian packages); please install them"
    fi
    is_root || fail "missing packages; as root: apt-get install --no-install-recommends $*"
    note "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # An old list may still do, and the installation says what is wrong if it does not.
    apt-get update -qq </dev/null || true
    apt-get install -y -qq --no-install-recommends "$@" </dev/null
}
