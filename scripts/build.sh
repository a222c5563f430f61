#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo. `build.sh shaper` builds what
# delays and loses packets in the laboratory instead, `build.sh rivals` what loads other systems; nothing of these
# is shipped.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
case ${1:-} in
    '') package=() binary=target/release/loggos ;;
    shaper) package=(--package loggos-shaper) binary=target/release/loggos-shaper ;;
    rivals) package=(--package loggos-rivals) binary=target/release/rival-load ;;
    *) fail "there is nothing named $1 to build: build.sh, or build.sh shaper or rivals" ;;
esac
scripts/setup.sh rust
as_builder cargo build --release --quiet "${package[@]}"
echo "built: $binary ($(du -h "$binary" | cut -f1))"
