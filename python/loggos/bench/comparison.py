"""The parts `puts`, `reads` and `latency`: all systems under the same loads, one after the other.

In each repetition every system in turn has a fresh cluster, and the order moves on by one, so that
a machine that grows slower or faster meanwhile does so for all of them.
"""

from loggos import stats, trace
from loggos.bench.context import Context
from loggos.bench.measures import of_report
from loggos.bench.systems import SYSTEMS, Load, Loggos, System

PUTS = (
    *(Load(f"puts-{clients}", clients=clients) for clients in (1, 16, 64, 256)),
    Load("puts-64x16", clients=64, in_flight=16),
)
READS = (Load("reads-64", operation="get"),)
QUORUM_READS = Load("reads-64-quorum", operation="get", quorum=True)
CALM = Load("puts-64")
PEAK = Load("puts-256", clients=256)
# The share of the peak that an open loop offers.
SHARE = 0.7
SERVED_S = 0.3


def order(names: list[str], repetition: int) -> list[str]:
    """Who comes after whom in a repetition."""
    at = repetition % len(names)
    return names[at:] + names[:at]


def run(context: Context) -> None:
    """All repetitions."""
    names = ["loggos", *context.parameters.peers]
    for repetition in range(context.parameters.repeats):
        for name in order(names, repetition):
            if name == "loggos" or {"puts", "reads"} & set(context.parameters.parts):
                title = f"{SYSTEMS[name].label}, repetition {repetition + 1}"
                context.console.heading(f"{title} of {context.parameters.repeats}")
                with context.attempt("puts", title):
                    _measure(context, name, repetition)


def _measure(context: Context, name: str, repetition: int) -> None:
    parts = context.parameters.parts
    with SYSTEMS[name](context.place) as system:
        context.versions[name] = system.version()
        heat(context, system)
        done = {}
        for load in (*(PUTS if "puts" in parts else ()), *(READS if "reads" in parts else ())):
            # One that fails, say because it is too much for a system, keeps no other from its turn.
            with context.attempt("puts", f"{system.label}, {load.label}"):
                done[load.name] = _one(context, system, load, repetition)
        if isinstance(system, Loggos):
            if "reads" in parts:
                _quorum_reads(context, system, repetition)
            if "latency" in parts:
                _latency(context, system, done, repetition)


def heat(context: Context, system: System) -> None:
    """A load that is not measured."""
    place, seconds = context.place, (context.place.duration_s, context.place.warmup_s)
    place.duration_s, place.warmup_s = context.parameters.heat_s, 0
    try:
        system.load(Load("heat"))
    finally:
        place.duration_s, place.warmup_s = seconds


def _one(context: Context, system: System, load: Load, repetition: int) -> dict:
    found = of_report(system.load(load))
    context.measures.add("puts", system.name, load.name, repetition, **found)
    context.console.line(line(load.label, found))
    return found


def line(what: str, found: dict) -> str:
    """A load's numbers in a line."""
    return (
        f"{what:<22}{found['throughput']:>9,.0f}/s"
        f"   p50 {found['p50_us'] / 1e3:>8.3f} ms   p99 {found['p99_us'] / 1e3:>8.3f} ms"
    )


def _quorum_reads(context: Context, system: Loggos, repetition: int) -> None:
    _one(context, system, QUORUM_READS, repetition)
    # Once more with a trace, which says who answered: for a moment, because writing it costs.
    path = system.dir / "reads.trace"
    process = system.bench(QUORUM_READS, SERVED_S, 0, "--trace", path)
    system.report(process, SERVED_S)
    operations = stats.succeeded(trace.operations(trace.read_all([path])))
    nodes = reads_by_node(operations)
    context.measures.add("puts", "loggos", QUORUM_READS.name, repetition, nodes_served=len(nodes))
    total = max(sum(nodes.values()), 1)
    shares = ", ".join(f"n{node} {count / total:.0%}" for node, count in sorted(nodes.items()))
    context.console.line(f"served by {shares}")


def reads_by_node(operations) -> dict[int, int]:
    """How many reads each node answered."""
    reads = operations[operations["operation"].map(trace.OPERATIONS) == "read"]
    return {int(node): int(count) for node, count in reads["node"].value_counts().items()}


def _latency(context: Context, system: Loggos, done: dict, repetition: int) -> None:
    """The tail at a moderate load: what is offered is a share of what was just reached."""
    for load in (CALM, PEAK):
        if load.name not in done:
            done[load.name] = _one(context, system, load, repetition)
    rate = SHARE * done[PEAK.name]["throughput"]
    load = Load("open", clients=PEAK.clients, rate=rate)
    found = of_report(system.load(load))
    context.measures.add("latency", "loggos", "open", repetition, rate=rate, **found)
    context.console.line(line(f"open loop, {SHARE:.0%} of peak", found))
