#!/usr/bin/env bash
# Formats everything, and lets the lints repair what they can.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust python
as_builder cargo clippy --quiet --fix --allow-dirty --allow-staged --workspace --all-targets --features "$all_features"
as_builder cargo fmt --all
as_builder cargo fmt --manifest-path fuzz/Cargo.toml
as_builder .venv/bin/ruff check --quiet --fix python mininet
as_builder .venv/bin/ruff format --quiet python mininet
