#!/usr/bin/env bash
# Builds the release binary, as the user who owns the repository even under sudo.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust
as_builder cargo build --release --quiet
echo "built: target/release/loggos ($(du -h target/release/loggos | cut -f1))"
