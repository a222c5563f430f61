#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo: build.sh [rivals | shaper]
#
#   rivals  instead what Loggos is compared with: rival-load, which loads other systems, and omnipaxos-kv, one of them
#   shaper  instead loggos-shaper, which delays and loses packets in the laboratory
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

built() { echo "built: target/release/$1 ($(du -h "target/release/$1" | cut -f1))"; }

case ${1:-} in
    "" | rivals | shaper) ;;
    *) fail "unknown part $1; see the top of scripts/build.sh" ;;
esac
scripts/setup.sh rust
case ${1:-} in
    rivals)
        as_builder cargo build --release --quiet -p loggos-rivals -p loggos-omnipaxos
        built rival-load
        built omnipaxos-kv
        ;;
    shaper)
        as_builder cargo build --release --quiet -p loggos-shaper
        built loggos-shaper
        ;;
    *)
        as_builder cargo build --release --quiet
        built loggos
        ;;
esac
