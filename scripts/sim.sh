#!/usr/bin/env bash
# Runs the simulator: scripts/sim.sh [ARGUMENT...], see `loggos-sim --help`.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust >/dev/null
as_builder cargo build --quiet --profile sim --features mutants --bin loggos-sim
exec target/sim/loggos-sim "$@"
