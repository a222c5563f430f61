#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo: build.sh [rivals]
#
#   rivals  instead what Loggos is compared with: rival-load, which loads other systems, and omnipaxos-kv, one of them
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
built() { echo "built: target/release/$1 ($(du -h "target/release/$1" | cut -f1))"; }
case ${1:-} in
    "" | rivals) ;;
    *) fail "unknown part $1; see the top of scripts/build.sh" ;;
esac
scripts/setup.sh rust
if [ "${1:-}" = rivals ]; then
    as_builder cargo build --release --quiet -p loggos-rivals -p loggos-omnipaxos
    built rival-load
    built omnipaxos-kv
else
    as_builder cargo build --release --quiet
    built loggos
fi
