#!/usr/bin/env bash
# The notebooks: on a terminal opened in JupyterLab; with PAGES=1, or where there is no terminal, run from top to
# bottom and left as pages in target/notebooks. LOGGOS_RUN names the run to show, LOGGOS_OTHER one to compare it
# with; else each notebook shows the newest run of its experiment, or what was published, or what was recorded for
# the tests.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
names=()
for name in LOGGOS_RUN LOGGOS_OTHER; do
    [ -z "${!name:-}" ] || names+=("$name=$(realpath -e "${!name}")") || fail "$name: there is no ${!name}"
done

if [ -z "${PAGES:-}" ] && [ -t 0 ] && [ -t 1 ]; then
    scripts/setup.sh python jupyter
    # It refuses to run as root, for whom a browser does not belong either; who insists knows why.
    root=()
    if is_root && [ "$builder" = root ]; then root=(--allow-root); fi
    become_builder env "${names[@]}" .venv/bin/jupyter lab "${root[@]}" python/notebooks
fi

scripts/setup.sh python
as_builder mkdir -p target/notebooks
for notebook in python/notebooks/*.ipynb; do
    as_builder env "${names[@]}" .venv/bin/jupyter nbconvert --log-level ERROR --to html --execute "$notebook" \
        --output-dir target/notebooks
    echo "target/notebooks/$(basename "${notebook%.ipynb}").html"
done
