#!/usr/bin/env bash
# Explores the larger models, and looks for deliberate defects with them (docs/model-checking.md).
# LOGGOS_MODEL='two crashes' scripts/model.sh explores only what is called so.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh rust >/dev/null
only=()
[ -z "${LOGGOS_MODEL:-}" ] || only=(explores)
as_builder env LOGGOS_MODEL="${LOGGOS_MODEL:-}" \
    cargo test --quiet --profile sim --features mutants --test model-large -- --nocapture "${only[@]}"
