#!/usr/bin/env bash
# Counts the instructions of fixed workloads (benches/instructions.rs) under valgrind, and compares them with
# those in benches/instructions.txt: fails where more than 5 % were lost. Counts are the same on a busy machine
# as on an idle one; with another compiler or libc they are not, and are only told then.
#
#   UPDATE_INSTRUCTIONS=1 scripts/instructions.sh    records the counts of today
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust valgrind

recorded=benches/instructions.txt
limit_permille=50
made_with="$(as_builder rustc -vV | sed -n 's/^release: /rustc /p; s/^host: //p' | paste -sd ' '), $(getconf GNU_LIBC_VERSION)"

# What drives the workloads is fast here, like the engine: only that is counted for its own sake.
as_builder cargo build --quiet --release --config profile.release.opt-level=3 --features sim --bin loggos-instructions
program=target/release/loggos-instructions

# How many instructions the program takes; the size of the environment would count a little.
count() {
    env -i valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
        sed -n 's/^.*Collected *: *//p'
}

now=$(
    env -i "$program" | while read -r name times; do
        once=$(count "$name" "$times")
        twice=$(count "$name" $((2 * times)))
        echo "$name $(((twice - once) / times))"
    done
)
[ -n "$now" ] || fail "nothing was counted"

if [ -n "${UPDATE_INSTRUCTIONS:-}" ]; then
    {
        echo "# Instructions of each workload of benches/instructions.rs, once. UPDATE_INSTRUCTIONS=1"
        echo "# scripts/instructions.sh writes this; what changed is told in the commit."
        echo "# made with: $made_with"
        echo "$now"
    } | as_builder tee "$recorded" >/dev/null
    echo "instructions: recorded in $recorded"
fi

was_made_with=$(sed -n 's/^# made with: //p' "$recorded")
lost=0
printf '%-12s %10s %10s %8s\n' workload recorded now change
while read -r name instructions; do
    before=$(sed -n "s/^$name //p" "$recorded")
    if [ -z "$before" ]; then
        printf '%-12s %10s %10s  it is not recorded yet\n' "$name" - "$instructions"
        lost=$((lost + 1))
        continue
    fi
    permille=$(((instructions - before) * 1000 / before))
    what=
    if [ "$permille" -gt "$limit_permille" ]; then
        what='  LOST'
        lost=$((lost + 1))
    elif [ "$permille" -lt "-$limit_permille" ]; then
        what='  gained: please record it'
    fi
    printf '%-12s %10s %10s %7s%%%s\n' "$name" "$before" "$instructions" \
        "$(awk "BEGIN { printf \"%+.1f\", $permille / 10 }")" "$what"
done <<<"$now"

if [ "$made_with" != "$was_made_with" ]; then
    echo "instructions: recorded with $was_made_with; here is $made_with, so nothing is judged"
elif [ "$lost" != 0 ]; then
    fail "more instructions than recorded; if that is worth it: UPDATE_INSTRUCTIONS=1 scripts/instructions.sh"
fi
