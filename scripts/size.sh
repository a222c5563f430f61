#!/usr/bin/env bash
# Fails if the release binary has grown beyond its limit: what it takes (docs/performance.md, "The binary") and
# 3 % for compilers to differ. Only on x86-64; elsewhere the size is told.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust

check() { # PROGRAM LIMIT
    local size
    size=$(stat -c %s "$1")
    echo "size: $1 has $size bytes; the limit is $2"
    if [ "$(uname -m)" = x86_64 ] && [ "$size" -gt "$2" ]; then
        fail "the binary has grown; docs/performance.md says what is in it, and how to look"
    fi
}

as_builder cargo build --release --quiet
check target/release/loggos 3870000
# Elsewhere, so that the other one stays.
as_builder cargo build --release --quiet --no-default-features --target-dir target/lean
check target/lean/release/loggos 2602000
