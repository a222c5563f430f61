#!/usr/bin/env bash
# Experiments from nothing to figures: experiment.sh NAME, `all` for all comparisons, `list` for a list. From
# the environment:
#
#   SYSTEMS  of comparisons, by names as `run.py --dry-run` has them, or all; those that Debian has are
#            installed. Where nothing is said: all that are at hand
#   QUICK    1: shorter ones
#   RUN      id of a run: one that exists is gone on with [date and time]
#   RESULTS  where the runs' folders go
#   LIBPAXOS_DIR
#            directory of a build of libpaxos3, for the systems libpaxos and libpaxos-lmdb
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

name=${1:-timeline}
results=${RESULTS:-results}
id=${RUN:-$(date +%Y%m%d-%H%M%S)}

lab=(/usr/bin/python3 mininet/run.py)

if [ "$name" = list ]; then
    exec "${lab[@]}" --list
fi
is_root || fail "emulated hosts need root: sudo make mininet-experiment"
asked=(--experiment "$name" --systems "${SYSTEMS:-}")
# Says what it does not know, before anything is installed or built.
names=$("${lab[@]}" "${asked[@]}" --needs names)
to_install=$("${lab[@]}" "${asked[@]}" --needs setup)
to_build=$("${lab[@]}" "${asked[@]}" --needs build)
read -ra names <<<"$names"
read -ra to_install <<<"$to_install"
read -ra to_build <<<"$to_build"
scripts/setup.sh mininet python "${to_install[@]}"
scripts/build.sh
for part in "${to_build[@]}"; do scripts/build.sh "$part"; done

# One experiment and its figures; returns its code.
experiment() {
    local code=0 options=(--experiment "$1" --systems "${SYSTEMS:-}" --results "$results" --run-id "$id")
    [ -z "${QUICK:-}" ] || options+=(--quick)
    run_to_its_end "${lab[@]}" "${options[@]}" || code=$?
    # A failed check has its traces, and they are what one wants to look at. Of a comparison in which
    # something failed there are the other cells.
    local there="$results/$1/$id"
    if [ "$code" = 0 ] || [ "$code" = 5 ] || { [ "$code" = 1 ] && [ -d "$there/cells" ]; }; then
        as_builder env PYTHONPATH=python .venv/bin/python -m loggos.analyse "$there" || [ "$code" != 0 ] || code=1
    fi
    return "$code"
}

failed=() code=0
for one in "${names[@]}"; do
    last=0
    experiment "$one" || last=$?
    # Interrupted: whoever did it wants no others.
    [ "$last" -lt 128 ] || exit "$last"
    if [ "$last" != 0 ]; then
        failed+=("$one")
        code=$last
    fi
done
if [ "${#names[@]}" -gt 1 ]; then
    for one in "${names[@]}"; do echo "$results/$one/$id/summary.md"; done
    [ "${#failed[@]}" = 0 ] || echo "failed: ${failed[*]}; again with RUN=$id" >&2
fi
exit "$code"
