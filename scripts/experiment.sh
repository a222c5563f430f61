#!/usr/bin/env bash
# One experiment from nothing to figures: experiment.sh NAME. With QUICK=1 a shorter one; RESULTS says
# where the run's folder goes.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

name=${1:-failover}
results=${RESULTS:-results}

if [ "$name" = list ]; then
    exec /usr/bin/python3 mininet/run.py --list
fi
is_root || fail "emulated hosts need root: sudo make mininet-experiment"
/usr/bin/python3 mininet/run.py --experiment "$name" --dry-run >/dev/null
scripts/setup.sh mininet python
scripts/build.sh
for part in $(/usr/bin/python3 mininet/run.py --experiment "$name" --needs build); do scripts/build.sh "$part"; done

id=$(date +%Y%m%d-%H%M%S)
options=(--experiment "$name" --results "$results" --run-id "$id")
[ -z "${QUICK:-}" ] || options+=(--quick)
code=0
run_to_its_end /usr/bin/python3 mininet/run.py "${options[@]}" || code=$?

# A failed check has its traces, and they are what one wants to look at.
if [ "$code" = 0 ] || [ "$code" = 5 ]; then
    as_builder env PYTHONPATH=python .venv/bin/python -m loggos.analyse "$results/$name/$id" || [ "$code" != 0 ] || code=1
fi
exit "$code"
