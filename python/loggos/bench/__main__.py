"""`python -m loggos.bench`: what `make bench` runs. Ends with 1 if something could not be measured;
that a bar is not met is a result like any other."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import matplotlib

from loggos.bench import (
    comparison,
    core,
    downtime,
    lean,
    limits,
    machine,
    recovery,
    report,
    sizes,
)
from loggos.bench.context import Console, Context, Parameters
from loggos.bench.measures import Measures
from loggos.bench.processes import Children, Failed, Interrupted, interrupt_on_signals
from loggos.bench.systems import PEERS, Place

REPOSITORY = Path(__file__).resolve().parents[3]
# In this order, whichever of them are chosen. Three of them share one pass over the systems.
COMPARED = ("puts", "latency", "reads")
MODULES = {
    "downtime": downtime,
    "sizes": sizes,
    "core": core,
    "lean": lean,
    "recovery": recovery,
}
PARTS = (*COMPARED, *MODULES)


def words(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a list with commas, in the order of `known`."""
    chosen = {word.strip() for word in text.split(",") if word.strip()}
    if chosen - set(known):
        unknown = ", ".join(sorted(chosen - set(known)))
        raise argparse.ArgumentTypeError(f"{unknown}: there are {', '.join(known)}")
    return tuple(word for word in known if word in chosen)


def arguments(line: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loggos.bench", description=__doc__)
    parser.add_argument("--peers", type=lambda text: words(text, tuple(PEERS)), default=())
    parser.add_argument("--bars", type=lambda text: words(text, PARTS) or PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, help="of each measurement (5, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results" / "bench")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "target" / "bench")
    parser.add_argument("--check", action="store_true", help="only look at these options")
    parser.add_argument("--report", type=Path, metavar="RUN", help="only make its report again")
    parser.add_argument("--publish", type=Path, metavar="RUN", help="make a run the reference")
    options = parser.parse_args(line)
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats: 1 or more")
    return options


def measure(options: argparse.Namespace, console: Console) -> Path:
    """Runs all parts that were asked for; returns the run's folder."""
    make = Parameters.quick if options.quick else Parameters.usual
    repeats = options.repeats or (1 if options.quick else 5)
    parameters = make(repeats, options.bars, options.peers)
    run = options.results / time.strftime("%Y%m%d-%H%M%S")
    run.mkdir(parents=True)
    # A folder of this run's own, so that two runs do not meet.
    work = options.work / run.name
    programs = work / "bin"
    programs.mkdir(parents=True)
    children = Children()
    try:
        if machine.is_in_memory(work):
            raise Failed(f"{work} is in memory: a sync costs nothing there, and means nothing")
        # Whatever is built meanwhile, the run is of one binary.
        binaries = REPOSITORY / "target" / "release"
        for name in ("loggos", *(("rival-load",) if options.peers else ())):
            shutil.copy2(binaries / name, programs / name)
        place = Place(
            work, programs / "loggos", programs / "rival-load", children,
            parameters.duration_s, parameters.warmup_s,
        )  # fmt: skip
        described = machine.describe(work, REPOSITORY, parameters, options.quick)
        if machine.is_busy(described):
            busy = described["load_average"]
            console.line(f"load average {busy}: others work here too, the numbers mean little")
        (run / "measures.jsonl").touch()
        measures = Measures(run / "measures.jsonl")
        context = Context(parameters, place, REPOSITORY, measures, console, children)
        try:
            limits.run(context)
            if set(parameters.parts) & set(COMPARED):
                comparison.run(context)
            for part in (part for part in MODULES if part in parameters.parts):
                with context.attempt(part, part):
                    MODULES[part].run(context)
        finally:
            described["versions"] = context.versions
            (run / "machine.json").write_text(json.dumps(described, indent=2) + "\n")
    finally:
        children.kill_all()
        shutil.rmtree(work, ignore_errors=True)
    return run


def show(run: Path, console: Console) -> int:
    """Writes and prints the report of a run; returns the exit code."""
    frame, failures = report.write(run)
    print()
    print(report.terminal(frame, failures, console))
    print(f"\n{run}: summary.md, puts.csv, bars.csv, machine.json, throughput.png")
    return 1 if failures else 0


def main(line: list[str] | None = None) -> int:
    """The command line."""
    options = arguments(line)
    if options.check:
        return 0
    console = Console()
    matplotlib.use("Agg")
    try:
        if options.publish:
            report.write(options.publish)
            print(f"Published: {report.publish(options.publish)}")
            return 0
        if options.report:
            return show(options.report, console)
        interrupt_on_signals()
        return show(measure(options, console), console)
    except Interrupted as signal:
        print(f"\nended by {signal}: all processes are gone, their data too", file=sys.stderr)
        return 130
    except (Failed, OSError, ValueError, KeyError) as error:
        print(f"loggos.bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
