#!/usr/bin/env bash
# Everything that checks the project, each step with its time, and a total at the end. A step that fails
# does not keep the others from running.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust python

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=() left_out=() steps=0

step() {
    local name=$1 begin=$SECONDS code=0
    shift
    note "$name"
    steps=$((steps + 1))
    # Through a file for the count, and to the reader while it runs.
    "$@" </dev/null 2>&1 | tee -a "$log" || code=$?
    [ "$code" = 0 ] || failed+=("$name")
    echo "-- $name: $([ "$code" = 0 ] && echo passed || echo FAILED), $((SECONDS - begin)) s"
}

# The client is tested against nodes of the release binary, the laboratory also with what it is compared with.
python_tests() {
    scripts/build.sh && scripts/build.sh rivals && (cd python && as_builder ../.venv/bin/python -m pytest)
}

# Long enough for any machine, builds included: a test that hangs fails its step, and ends with its nodes.
tests() { as_builder timeout 25m cargo test --quiet "$@"; }

step "formatting and lints" scripts/check.sh
step "Rust tests" tests --workspace --features "$all_features" --no-fail-fast
simulator() {
    tests --profile sim --features mutants --test sim --test connectivity --test mutants &&
        scripts/sim.sh --first fresh --seeds 1000000 --seconds "${SIM_SECONDS:-120}"
}
step "Simulated clusters" simulator
step "Python tests and notebooks" python_tests
step "systemd units" systemd/verify.sh
if ! is_root; then
    left_out+=("Mininet smoke test, shaped links (need root)")
elif ! unshare --net true 2>/dev/null; then
    left_out+=("Mininet smoke test, shaped links (network namespaces are not permitted here)")
else
    RESULTS=target/lab step "Mininet smoke test" scripts/experiment.sh smoke
    # As root, and with what the step before has installed; it leaves nothing behind that is root's.
    shaped_links() {
        scripts/build.sh shaper && (cd python &&
            env LOGGOS_TEST_SHAPER=1 PYTHONDONTWRITEBYTECODE=1 ../.venv/bin/python -m pytest -p no:cacheprovider tests/test_shaping.py)
    }
    step "Shaped links" shaped_links
fi

if scripts/setup.sh rocksdb; then
    rocksdb() { scripts/rocksdb.sh lint && scripts/rocksdb.sh test; }
    step "Keys in RocksDB" rocksdb
else
    left_out+=("Keys in RocksDB (needs librocksdb-dev and libclang1)")
fi

torture() {
    as_builder cargo build --release --quiet && RESULTS=target/lab scripts/torture.sh 35
}
step "Real nodes under random faults" torture
if command -v c++ >/dev/null || is_root; then
    step "Fuzzing, steered by coverage" scripts/fuzz.sh 10
else
    left_out+=("Fuzzing, steered by coverage (needs a C++ compiler)")
fi

step "Size of the binary" scripts/size.sh
if command -v valgrind >/dev/null || is_root; then
    step "Instructions counted" scripts/instructions.sh
else
    left_out+=("Instructions counted (needs valgrind)")
fi

# cargo: "test result: ok. 12 passed; 0 failed; ..."; pytest: "1 failed, 33 passed in 5.4s". Torture tells of operations
# that failed, as they may.
passed=$(grep -aoE '[0-9]+ passed' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
broken=$(grep -aoE '[0-9]+ failed(;|, [0-9]+ passed)' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
note "total"
for name in "${left_out[@]}"; do echo "left out: $name"; done
for name in "${failed[@]}"; do echo "failed: $name"; done
echo "$((steps - ${#failed[@]})) of $steps steps passed; tests: $passed passed, $broken failed; $SECONDS s"
[ "${#failed[@]}" = 0 ]
