#!/usr/bin/env bash
# Loggos with its keys in RocksDB (docs/rocksdb.md), built into target/rocksdb against Debian's library:
#
#   scripts/rocksdb.sh build    target/rocksdb/release/loggos
#   scripts/rocksdb.sh test     the tests of the store, and those of clusters with every node's keys in RocksDB
#   scripts/rocksdb.sh lint     what scripts/check.sh does for the rest
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust rocksdb

# The library and its header as Debian has them, so that the bindings are made of what is linked. Of clang only the
# library is there: what the compiler's own headers say comes from gcc.
with_rocksdb() {
    as_builder env CARGO_TARGET_DIR=target/rocksdb \
        ROCKSDB_LIB_DIR="/usr/lib/$(gcc -print-multiarch)" ROCKSDB_INCLUDE_DIR=/usr/include \
        BINDGEN_EXTRA_CLANG_ARGS="-I$(gcc -print-file-name=include)" "$@"
}

case ${1:-build} in
    build) with_rocksdb cargo build --release --features rocksdb ;;
    test)
        with_rocksdb timeout 10m cargo test --quiet --package loggos-engine --features rocksdb --lib -- store:: config:: snapshot::
        with_rocksdb env LOGGOS_TEST_ENGINE=rocksdb timeout 25m cargo test --quiet --features rocksdb --no-fail-fast \
            --test processes --test snapshots --test keys --test sql
        # These say of each node what it has.
        with_rocksdb timeout 10m cargo test --quiet --features rocksdb --test rocksdb
        ;;
    lint) with_rocksdb cargo clippy --quiet --workspace --all-targets --features "$all_features,rocksdb" -- -D warnings ;;
    *) fail "unknown: $1; see the top of scripts/rocksdb.sh" ;;
esac
