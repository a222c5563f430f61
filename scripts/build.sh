#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo: build.sh [rivals|shaper]
#
#   rivals  instead what Loggos is compared with: rival-load, which loads other systems, and omnipaxos-kv, one of them
#   shaper  instead what delays and loses packets in the laboratory
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
case ${1:-} in
    "") packages=() binaries=(loggos) ;;
    rivals) packages=(-p loggos-rivals -p loggos-omnipaxos) binaries=(rival-load omnipaxos-kv) ;;
    shaper) packages=(-p loggos-shaper) binaries=(loggos-shaper) ;;
    *) fail "unknown part $1; see the top of scripts/build.sh" ;;
esac
scripts/setup.sh rust
as_builder cargo build --release --quiet "${packages[@]}"
for binary in "${binaries[@]}"; do
    echo "built: target/release/$binary ($(du -h "target/release/$binary" | cut -f1))"
done
