#!/usr/bin/env bash
# Formatting and lints of everything; edits nothing. `make fix` is the one that edits.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust python

as_builder cargo fmt --all --check
as_builder cargo fmt --check --manifest-path fuzz/Cargo.toml
as_builder cargo clippy --quiet --workspace --all-targets --features "$all_features" -- -D warnings
as_builder cargo clippy --quiet --workspace -- -D warnings
# Targets that plain `cargo test` leaves out are no part of --all-targets.
as_builder cargo clippy --quiet --features "$all_features" --test sim --test connectivity --test mutants --test model-large -- -D warnings
as_builder .venv/bin/ruff format --quiet --check python mininet
as_builder .venv/bin/ruff check --quiet python mininet
if command -v shellcheck >/dev/null; then
    shellcheck -x scripts/*.sh .ci/run systemd/*.sh
else
    echo "check: shellcheck is not installed, the scripts were not checked"
fi
echo "check: formatting and lints are in order"
