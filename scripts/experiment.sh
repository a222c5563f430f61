#!/usr/bin/env bash
# Experiments from nothing to figures: experiment.sh NAME, `list` for a list, `all` for all of them and a report in
# results/all/ID. From the environment:
#
#   SYSTEMS  of comparisons, by names as `run.py --dry-run` has them, or all; those that Debian has are
#            installed. Where nothing is said: all that are at hand
#   QUICK    1: shorter ones
#   REPEATS  repetitions of comparisons; a run that is gone on with may get more
#   RUN      id of a run: one that exists is gone on with [date and time]; of `all`, what is done is not done again
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
compared=$("${lab[@]}" "${asked[@]}" --needs compared)
to_install=$("${lab[@]}" "${asked[@]}" --needs setup)
to_build=$("${lab[@]}" "${asked[@]}" --needs build)
read -ra names <<<"$names"
read -ra to_install <<<"$to_install"
read -ra to_build <<<"$to_build"
scripts/setup.sh mininet python "${to_install[@]}"
scripts/build.sh
for part in "${to_build[@]}"; do scripts/build.sh "$part"; done
several=$([ "${#names[@]}" -gt 1 ] && echo 1 || true)
report="$results/all/$id"

analyse() { as_builder env PYTHONPATH=python .venv/bin/python -m "loggos.$1" "${@:2}"; }

# One experiment and its figures; returns its code.
experiment() {
    local code=0 there="$results/$1/$id" options=(--experiment "$1" --results "$results" --run-id "$id")
    [ -z "${QUICK:-}" ] || options+=(--quick)
    if [ -z "$several" ] || [[ " $compared " = *" $1 "* ]]; then
        options+=(--systems "${SYSTEMS:-}")
        [ -z "${REPEATS:-}" ] || options+=(--repeats "$REPEATS")
    elif [ -f "$there/summary.md" ]; then
        note "$1 is done already: $there"
        return
    elif [ -d "$there" ]; then
        # It can't be gone on with.
        mv "$there" "$there.interrupted-$(date +%H%M%S)"
    fi
    run_to_its_end "${lab[@]}" "${options[@]}" || code=$?
    # A failed check has its traces, and they are what one wants to look at. Of a comparison in which
    # something failed there are the other cells.
    if [ "$code" = 0 ] || [ "$code" = 5 ] || { [ "$code" = 1 ] && [ -d "$there/cells" ]; }; then
        analyse analyse "$there" ${several:+--report "$report"} || [ "$code" != 0 ] || code=1
    fi
    return "$code"
}

failed=() code=0 number=0
for one in "${names[@]}"; do
    last=0 number=$((number + 1))
    [ -z "$several" ] || note "$one ($number of ${#names[@]}), $((SECONDS / 60)) min so far"
    experiment "$one" || last=$?
    # Interrupted: whoever did it wants no others.
    [ "$last" -lt 128 ] || exit "$last"
    if [ "$last" != 0 ]; then
        failed+=("$one")
        code=$last
    fi
done
if [ -n "$several" ]; then
    analyse report "$report" || code=1
    echo "$((${#names[@]} - ${#failed[@]})) of ${#names[@]} experiments in $((SECONDS / 60)) min: $report/report.html"
    [ "${#failed[@]}" = 0 ] || echo "failed: ${failed[*]}; again with RUN=$id" >&2
fi
exit "$code"
