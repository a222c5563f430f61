"""The part `lean`: size of the binary, and what nodes take of memory and processor, idle and
loaded."""

import time

from loggos.bench.context import Context
from loggos.bench.processes import memory, processor_s
from loggos.bench.systems import Load, Loggos

LOADED = Load("puts-256", clients=256)
SETTLE_S = 1
SAMPLE_S = 0.1


def run(context: Context) -> None:
    """All repetitions."""
    size = context.place.binary.stat().st_size
    context.console.heading(f"lean: the binary has {size / 1e6:.2f} MB")
    context.measures.add("lean", "loggos", "binary", 0, bytes=size)
    for repetition in range(context.parameters.repeats):
        with context.attempt("lean", "idle and loaded"):
            _measure(context, repetition)


def _measure(context: Context, repetition: int) -> None:
    with Loggos(context.place) as cluster:
        pids = [node.pid for node in cluster.nodes]
        time.sleep(SETTLE_S)
        before = [processor_s(pid) for pid in pids]
        time.sleep(context.parameters.idle_s)
        after = [processor_s(pid) for pid in pids]
        used = max(b - a for a, b in zip(before, after, strict=True)) / context.parameters.idle_s
        idle = most([memory(pid) for pid in pids])
        context.measures.add("lean", "loggos", "idle", repetition, cpu=used, **idle)
        context.console.line(_line("idle", idle, 0) + f", {used:.2%} of a core")

        duration_s = context.parameters.duration_s
        process = cluster.bench(LOADED, duration_s, context.parameters.warmup_s)
        samples = []
        while process.poll() is None:
            samples += [memory(pid) for pid in pids]
            time.sleep(SAMPLE_S)
        cluster.report(process, 0)
        data = LOADED.keys * LOADED.value_size
        loaded = most(samples)
        context.measures.add("lean", "loggos", "loaded", repetition, data=data, **loaded)
        context.console.line(_line("256 clients", loaded, data) + ", beyond the data")


def most(samples: list[dict[str, int]]) -> dict[str, int]:
    """The highest of each kind of memory: of the node that takes most, when it took most."""
    return {name: max(sample[name] for sample in samples) for name in ("rss", "anon", "file")}


def _line(what: str, found: dict[str, int], data: int) -> str:
    resident, own = ((found[name] - data) / 1e6 for name in ("rss", "anon"))
    return f"{what:<12} {resident:.1f} MB resident, {own:.1f} MB of it no files"
