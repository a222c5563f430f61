#!/usr/bin/env bash
# Loggos beside other systems and beside what this machine can do: bench.sh [OPTION...], see
# `python -m loggos.bench --help`. From the environment:
#
#   PEERS    other systems, of etcd,redis,zookeeper; installed if missing. None by default
#   BARS     parts, of puts,latency,reads,downtime,sizes,core,lean,recovery. All by default
#   REPEATS  of each measurement, 5 by default
#   QUICK    1: about two minutes, for numbers that mean little
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

IFS=, read -ra peers <<<"${PEERS:-}"
bars=${BARS:-core}
options=(--bars "${BARS:-}" --peers "${PEERS:-}")
[ -z "${REPEATS:-}" ] || options+=(--repeats "$REPEATS")
[ -z "${QUICK:-}" ] || options+=(--quick)
scripts/setup.sh rust python
# Says what it does not know, before anything is installed or built.
as_builder env PYTHONPATH=python .venv/bin/python -m loggos.bench "${options[@]}" --check "$@"
scripts/setup.sh "${peers[@]// /}"
scripts/build.sh
[ "${#peers[@]}" = 0 ] || as_builder cargo build --release --quiet -p loggos-rivals
case ,${bars// /}, in
    *,core,*) as_builder cargo bench --quiet --no-run --bench core --target-dir target/benches ;;
esac
become_builder env PYTHONPATH=python .venv/bin/python -m loggos.bench "${options[@]}" "$@"
