#!/usr/bin/env bash
# Coverage-guided fuzzing of everything that reads bytes: fuzz.sh [SECONDS] [TARGET...]. SECONDS, 60 by
# default, are for all targets together, not counting the build. KEEP=1 puts the inputs that reach
# something new into fuzz/corpus.
#
# The fuzzer is libFuzzer; its counters are put in by the stable compiler (a pass of LLVM), so that no
# nightly toolchain and no cargo subcommand is needed, only a C++ compiler for libFuzzer itself.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "SECONDS is $seconds; it must be a whole number, 1 or more"
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(sed -n 's/^ *Target { name: "\([a-z]*\)".*/\1/p' fuzz/src/targets/mod.rs)
scripts/setup.sh rust fuzz

work=target/fuzz
triple=$(as_builder rustc -vV | sed -n 's/^host: //p')
# With a triple given, the counters are for our code and not for build scripts.
as_builder env CARGO_TARGET_DIR="$work" RUSTFLAGS="-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$triple"
fuzzer=$work/$triple/release/loggos-fuzz

jobs=$(nproc)
[ "$jobs" -le "${#targets[@]}" ] || jobs=${#targets[@]}
rounds=$(((${#targets[@]} + jobs - 1) / jobs))
each=$((seconds / rounds))
[ "$each" -gt 0 ] || each=1
as_builder mkdir -p "$work/logs" "$work/crashes"

fuzz_one() {
    local name=$1 found=$work/corpus/$1
    local size
    size=$(sed -n "s/.*name: \"$name\", size_max: \([0-9_]*\).*/\1/p" fuzz/src/targets/mod.rs | tr -d _)
    as_builder mkdir -p "$found"
    as_builder env LOGGOS_FUZZ_TARGET="$name" "$fuzzer" "$found" "fuzz/corpus/$name" \
        -max_total_time="$each" -max_len="$size" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$work/crashes/$name-" </dev/null 2>&1 |
        as_builder tee "$work/logs/$name.log" >/dev/null || true
}

note "fuzzing ${#targets[@]} targets for $each s each, $jobs at a time"
running=()
for name in "${targets[@]}"; do
    if [ "${#running[@]}" -ge "$jobs" ]; then
        wait "${running[0]}"
        running=("${running[@]:1}")
    fi
    fuzz_one "$name" &
    running+=($!)
done
wait

findings=0
printf '%-10s %12s %10s %8s %8s  %s\n' target executions 'a second' corpus places findings
for name in "${targets[@]}"; do
    log=$work/logs/$name.log
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    last=$(grep -aE '^#[0-9]+.* cov: ' "$log" | tail -n 1)
    covered=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' <<<"$last")
    corpus=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' <<<"$last")
    finding=none
    if ! grep -aq '^Done ' "$log"; then
        findings=$((findings + 1))
        finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        finding=${finding:-it did not run: $log}
    fi
    printf '%-10s %12s %10s %8s %8s  %s\n' "$name" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "${corpus:-?}" "${covered:-?}" "$finding"
done

# Without counters an input is new only if it reaches a place that no other does: few files, then.
if [ -n "${KEEP:-}" ] && [ "$findings" = 0 ]; then
    for name in "${targets[@]}"; do
        as_builder env LOGGOS_FUZZ_TARGET="$name" "$fuzzer" -merge=1 -use_counters=0 "fuzz/corpus/$name" \
            "$work/corpus/$name" >/dev/null 2>&1
    done
    note "fuzz/corpus holds what reaches something new"
fi
if [ "$findings" != 0 ]; then
    echo "each finding is an input: repair what it breaks, and put it into fuzz/corpus/TARGET" >&2
    exit 1
fi
