"""The part `sizes`: five nodes beside three, and values of 64 bytes to a mebibyte beside the
disk."""

from loggos.bench.comparison import heat, line
from loggos.bench.context import Context
from loggos.bench.limits import WRITERS, write_bandwidth
from loggos.bench.measures import of_report
from loggos.bench.systems import Load, Loggos

MANY = Load("puts-256", clients=256)
# Bytes of values over all keys: what the nodes hold in memory stays small, however large a value
# is.
DATA_SIZE = 64 << 20
VALUE_SIZES = (64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
# From here on it is the disk that counts, and not the requests.
LARGE_SIZE = 64 << 10


def load_of(size: int) -> Load:
    """Puts of values of this size. Fewer clients where each has more in flight."""
    clients = 64 if size < LARGE_SIZE else 16
    return Load(
        f"value-{size}", clients=clients, value_size=size, keys=min(10_000, DATA_SIZE // size)
    )


def run(context: Context) -> None:
    """All repetitions, the sizes of clusters one beside the other."""
    for repetition in range(context.parameters.repeats):
        title = f"sizes, {repetition + 1} of {context.parameters.repeats}"
        context.console.heading(title)
        for nodes in (3, 5) if repetition % 2 == 0 else (5, 3):
            what = f"{nodes} nodes"
            with context.attempt("sizes", what):
                _nodes(context, nodes, repetition)
        with context.attempt("sizes", "values"):
            _values(context, repetition)
        with context.attempt("sizes", "the disk"):
            _disk(context, repetition)


def _nodes(context: Context, nodes: int, repetition: int) -> None:
    with Loggos(context.place, nodes=nodes) as cluster:
        heat(context, cluster)
        found = of_report(cluster.load(MANY))
        context.measures.add("sizes", "loggos", f"nodes-{nodes}", repetition, **found)
        context.console.line(line(f"{nodes} nodes, 256 clients", found))


def _values(context: Context, repetition: int) -> None:
    with Loggos(context.place) as cluster:
        heat(context, cluster)
        for size in VALUE_SIZES:
            # One that the cluster does not bear keeps no other from its turn.
            with context.attempt("sizes", f"values of {size:,} bytes"):
                _value(context, cluster, size, repetition)


def _value(context: Context, cluster: Loggos, size: int, repetition: int) -> None:
    load = load_of(size)
    found = of_report(cluster.load(load))
    found["bytes_s"] = found["throughput"] * size
    context.measures.add("sizes", "loggos", load.name, repetition, **found)
    context.console.line(
        f"values of {size:>9,} bytes {found['throughput']:>9,.0f}/s"
        f" {found['bytes_s'] / 1e6:>8.1f} MB/s"
    )


def _disk(context: Context, repetition: int) -> None:
    rate = write_bandwidth(context.place.root, WRITERS, context.parameters.stream_bytes // WRITERS)
    context.measures.add("sizes", "machine", "", repetition, disk_share_bytes_s=rate / WRITERS)
    context.console.line(f"the disk, a third of it: {rate / WRITERS / 1e6:,.0f} MB/s")
