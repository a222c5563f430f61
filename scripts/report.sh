#!/usr/bin/env bash
# The report of all experiments, of the tables, figures and parameters that were published of them: README.md
# and report.html below results/. The page of HTML is not committed: it holds what the folders hold already.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"
scripts/setup.sh python
as_builder env PYTHONPATH=python .venv/bin/python -m loggos.report results
