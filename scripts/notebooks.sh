#!/usr/bin/env bash
# Runs the notebooks from top to bottom and leaves them as pages. LOGGOS_RUN names the run to show, else
# it is the newest one, else the sample of the tests.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh python
as_builder mkdir -p target/notebooks
for notebook in python/notebooks/*.ipynb; do
    page=target/notebooks/$(basename "${notebook%.ipynb}").html
    as_builder env ${LOGGOS_RUN:+LOGGOS_RUN="$(realpath "$LOGGOS_RUN")"} \
        .venv/bin/jupyter nbconvert --log-level ERROR --to html --execute "$notebook" \
        --output-dir target/notebooks
    echo "$page"
done
