"""The part `core`: the protocol alone, by `cargo bench --bench core`."""

import re

from loggos.bench.context import Context
from loggos.bench.processes import Failed

TIMEOUT_S = 900


def run(context: Context) -> None:
    """All repetitions."""
    context.console.heading(f"the core alone, {context.parameters.repeats} times")
    for repetition in range(context.parameters.repeats):
        with context.attempt("core", "cargo bench"):
            _measure(context, repetition)


def _measure(context: Context, repetition: int) -> None:
    manifest = context.repository / "Cargo.toml"
    # Elsewhere: beside a benchmark cargo builds the programs too, as benchmarks are built, and
    # what the other parts measure must stay as it is shipped.
    target = context.repository / "target" / "benches"
    command = ["cargo", "bench", "--quiet", "--bench", "core", "--manifest-path", manifest]
    command += ["--target-dir", target]
    found = parse(context.children.run(command, TIMEOUT_S))
    context.measures.add("core", "loggos", "core", repetition, **found)
    context.console.line(
        f"{found['ns']:,.0f} ns and {found['allocations']:.2f} allocations a value"
    )


def parse(out: str) -> dict[str, float]:
    """Nanoseconds and allocations a value, from what the benchmark prints."""
    one_by_one = [line for line in out.splitlines() if "in batches of 1," in line]
    for line in one_by_one:
        ns = re.search(r"([\d,.]+) ns", line)
        allocations = re.search(r"([\d,.]+) allocations", line)
        if ns and allocations:
            numbers = [float(each[1].replace(",", "")) for each in (ns, allocations)]
            return {"ns": numbers[0], "allocations": numbers[1]}
    raise Failed("the benchmark of the core says nothing of values one by one")
