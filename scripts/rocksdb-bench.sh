#!/usr/bin/env bash
# Three nodes on this machine, each with so much memory and no more, under a load on so many keys; as root
# (docs/rocksdb.md has figures):
#
#   scripts/rocksdb-bench.sh ENGINE KEYS [LIMIT_MIB] [DURATION]      e.g. rocksdb 4000000 256 30s
#
# First all keys are written once, then for the duration half of the operations read and half write. What a node
# took of its memory is told at the end, and whether it lives. Nothing is compressed: the values of `loggos bench` are dots.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
is_root || fail "limits of memory are root's to set"
engine=${1:?memory or rocksdb} keys=${2:?how many keys} limit_mib=${3:-256} duration=${4:-30s}
program=$root_dir/target/rocksdb/release/loggos
[ -x "$program" ] || fail "first: scripts/rocksdb.sh build"

# Version 2 of control groups, or 1.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    groups=/sys/fs/cgroup limit=memory.max peak=memory.peak
    echo +memory >$groups/cgroup.subtree_control
else
    groups=/sys/fs/cgroup/memory limit=memory.limit_in_bytes peak=memory.max_usage_in_bytes
fi
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/loggos-rocksdb.XXXXXX")
group() { echo "$groups/loggos-bench-$$-$1"; }
pids=()
clean_up() {
    [ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null
    for node in 1 2 3; do rmdir "$(group $node)" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

{
    printf 'cluster = "rocksdb-bench"\ndata_dir = "unused"\n[store]\nengine = "%s"\ncache_mib = %s\ncompress = false\n' \
        "$engine" $((limit_mib / 4))
    for node in 1 2 3; do
        printf '[[nodes]]\nid = %s\npeer_address = "127.0.0.1:794%s"\nclient_address = "127.0.0.1:795%s"\n' \
            $node $node $node
    done
} >"$dir/loggos.toml"
for node in 1 2 3; do
    mkdir "$(group $node)"
    echo $((limit_mib << 20)) >"$(group $node)/$limit"
    # The shell enters the group, and becomes the node there.
    bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$(group $node)" \
        "$program" serve --config "$dir/loggos.toml" --node $node --data-dir "$dir/n$node" 2>"$dir/n$node.log" &
    pids+=($!)
done
for node in 1 2 3; do
    for ((tries = 0; tries < 100; tries++)); do
        ! grep -q 'serving as' "$dir/n$node.log" || continue 2
        sleep 0.1
    done
    fail "n$node does not serve: $(cat "$dir/n$node.log")"
done

code=0
"$program" bench --config "$dir/loggos.toml" --clients 16 --in-flight 8 --keys "$keys" --value-size 256 --reads 0.5 \
    --warmup 2s --duration "$duration" --give-up 20s --interval 10s || code=$?
echo "$engine, $keys keys, $limit_mib MiB a node; bench ended with $code"
for node in 1 2 3; do
    lives=lives
    [ -e "/proc/${pids[node - 1]}" ] || lives=DEAD
    grep -E '^(VmHWM|RssAnon):' "/proc/${pids[node - 1]}/status" 2>/dev/null | tr -s '\t \n' ' ' || true
    echo "n$node $lives, at most $(($(cat "$(group $node)/$peak") >> 20)) MiB with the page cache," \
        "$(du -sm "$dir/n$node/keys" 2>/dev/null | cut -f 1) MiB of tables; $(tail -n 1 "$dir/n$node.log")"
done
