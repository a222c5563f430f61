#!/usr/bin/env bash
# Fails if the release binary has grown beyond its limit: what it takes (docs/performance.md, "The binary") and
# 3 % for compilers to differ. Only on x86-64; elsewhere the size is told.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust

limit=2305000
as_builder cargo build --release --quiet
size=$(stat -c %s target/release/loggos)
echo "size: target/release/loggos has $size bytes; the limit is $limit"
if [ "$(uname -m)" = x86_64 ] && [ "$size" -gt "$limit" ]; then
    fail "the binary has grown; docs/performance.md says what is in it, and how to look"
fi
