#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo; and parts of the laboratory that
# are named, of which nothing is shipped: build.sh [shaper] [rivals].
#   shaper   what delays and loses packets between emulated hosts
#   rivals   what loads other systems
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
for part in "$@"; do
    case $part in
        shaper | rivals) ;;
        *) fail "unknown part $part; see the top of scripts/build.sh" ;;
    esac
done
scripts/setup.sh rust
as_builder cargo build --release --quiet
echo "built: target/release/loggos ($(du -h target/release/loggos | cut -f1))"
for part in "$@"; do
    as_builder cargo build --release --quiet --package "loggos-$part"
    echo "built: $part, in target/release"
done
