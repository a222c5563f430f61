#!/usr/bin/env bash
# Tortures real nodes for a while: torture.sh [SECONDS [SEED]]. As root on Mininet's hosts, otherwise on
# loopback; RESULTS says where the run's folder goes. Needs the binary that `make build` makes.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

seconds=${1:-180}
seed=${2:-}
if is_root; then
    scripts/setup.sh torture
    ! unshare --net true 2>/dev/null || scripts/setup.sh mininet
fi
options=(--seconds "$seconds" --results "${RESULTS:-results/torture}")
[ -z "$seed" ] || options+=(--seed "$seed")
run_to_its_end /usr/bin/python3 mininet/torture.py "${options[@]}"
