#!/usr/bin/python3
"""Tortures real nodes under load for a while, and judges what came of it.

    sudo /usr/bin/python3 mininet/torture.py --seconds 180 --seed 7

As root on emulated hosts, where links can be cut; otherwise on loopback, without that.
`make torture` builds first and installs what is missing. Exit codes: 0 all held, 1 something did
not, 2 wrong use, 3 the torture itself failed, 128 + n interrupted by signal n.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import sandbox
import torture_places as places
import torture_plan
import torture_report as report
from torture_nodes import Cluster
from torture_plan import NETWORK

REPOSITORY = Path(__file__).resolve().parent.parent
TICK_S = 0.02
READY_S = 30
# Generous: what is judged is that the nodes come back at all.
RECOVERY_S = 60
STOP_S = 20
BENCH_GRACE_S = 120
# A request that was refused, found nobody or was not answered in time is none the worse for it.
ASKED_CODES = (0, 1, 3, 4)
# What `wal inspect` ends with on a log that lost records.
DAMAGED = 5
MEMORY_MAX_MIB = 512
# Operations a second of each load, and what it takes beside. The log grows by about 3 MiB/s, so
# that a full disk is felt within seconds; `--fast` is as fast as replies come. The first three
# account for every operation; in the last, clients read what others write, on few keys and at all
# nodes, which the histories are judged by.
LOADS = {
    "incr": (1000, "--check --workload incr --keys 200"),
    "create": (500, "--check --workload create --value-size 64"),
    "put": (400, "--check --workload put --value-size 6000 --keys 500 --reads 0.3"),
    "mixed": (500, "--workload put --value-size 32 --keys 30 --reads 0.6 --target spread"),
}
CLIENTS, IN_FLIGHT = 8, 4


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180, help="length of the load [180]")
    parser.add_argument("--seed", type=int, help="decides all faults [random, and printed]")
    parser.add_argument("--nodes", type=int, choices=range(1, 8), help="[drawn: 3 or 5]")
    parser.add_argument("--loopback", action="store_true", help="no emulated network")
    parser.add_argument("--fast", action="store_true", help="closed loops instead of fixed rates")
    parser.add_argument("--traces", action="store_true", help="keep the traces of the nodes")
    parser.add_argument("--only", metavar="KIND,...", help="these faults and no others")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/loggos")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results/torture")
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seconds < 10:
        parser.error("--seconds must be 10 or more: faults need time, and so do the nodes after")
    if not options.binary.is_file():
        parser.error(f"{options.binary} does not exist: build it with `make build`")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    unknown = set((options.only or "").split(",")) - set(torture_plan.KINDS) - {""}
    if unknown:
        known = ", ".join(torture_plan.KINDS)
        parser.error(f"--only: no fault {', '.join(sorted(unknown))}; there are: {known}")
    if options.run_dir is None:
        options.run_dir = new_run_dir(options.results.resolve())
        if os.geteuid() == 0:
            # With everything decided, so that the inside draws nothing anew.
            arguments = [*sys.argv[1:], f"--seed={options.seed}", f"--run-dir={options.run_dir}"]
            try:
                return sandbox.run_inside(arguments)
            finally:
                hand_over(options.run_dir)
    sandbox.interrupt_on_signals()
    return torture(options)


def new_run_dir(results):
    """A folder for this run, named after the time."""
    run_dir = results / time.strftime("%Y%m%d-%H%M%S")
    run_dir.mkdir(parents=True)
    return run_dir


def hand_over(run_dir):
    """Gives what root wrote to the user who called sudo."""
    if "SUDO_UID" not in os.environ:
        return
    user, group = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    for path in [run_dir.parent, run_dir, *run_dir.rglob("*")]:
        os.chown(path, user, group, follow_symlinks=False)


def torture(options):
    """One run, from an empty folder to a verdict; returns the exit code."""
    for folder in ("logs", "traces", "nodes", "bench"):
        (options.run_dir / folder).mkdir()
    run = Torture(options)
    try:
        code = run.play()
    except sandbox.Interrupted as interrupt:
        print(f"interrupted by {interrupt}", file=sys.stderr)
        code = 128 + interrupt.number
    except Exception as error:
        (options.run_dir / "failure.txt").write_text(traceback.format_exc())
        print(f"the torture itself failed: {error}", file=sys.stderr)
        code = 3
    finally:
        run.take_down()
    if code == 0:
        # Logs, histories and traces are elsewhere.
        if run.mounted:
            subprocess.run(["umount", run.mounted], check=False)
        shutil.rmtree(options.run_dir / "nodes", ignore_errors=True)
        if not options.traces:
            shutil.rmtree(options.run_dir / "traces")
        (options.run_dir / "disk.img").unlink(missing_ok=True)
    print(f"files: {options.run_dir}", flush=True)
    return code


class Torture:
    """A run: the plan, the cluster, the loads, and what was seen."""

    def __init__(self, options):
        self.options = options
        self.run_dir = options.run_dir
        self.plan = torture_plan.draw(options.seed, options.seconds, options.nodes)
        self.binary = self.run_dir / "loggos"
        self.place = None
        self.cluster = None
        self.lacks = {}
        self.mounted = None
        self.benches = {}
        # The load of rows, transactions, locks and watches.
        self.stores = None
        # What operators asked for: processes that end by themselves, in whatever way.
        self.asked = []
        self.violations = []
        self.done = Counter()
        self.skipped = 0
        # What is still to come: (seconds, number, what to call).
        self.due = []
        self.calls = 0
        # The network fault in force, and when a majority came and went: (seconds, is there one).
        self.cut = None
        self.majority = []
        self.journal = None

    # The course of a run

    def play(self):
        """All of it; returns the exit code."""
        # A copy: a build that goes on meanwhile must not change what is restarted.
        shutil.copy2(self.options.binary, self.binary)
        self.lacks = places.missing(sandbox.is_inside() and "mounts" in sandbox.isolation())
        if "full-disk" not in self.lacks:
            # Before there are hosts: each has mounts of its own, and would not see one made later.
            self.mounted = self.run_dir / "nodes" / f"n{self.plan.nodes}"
            places.small_disk(self.run_dir / "disk.img", self.mounted)
        self.place = self._place()
        if not self.place.links:
            self.lacks |= dict.fromkeys(NETWORK, "links are cut as root, with Mininet")
        if self.options.only:
            for kind in set(torture_plan.KINDS) - set(self.options.only.split(",")):
                self.lacks[kind] = "not asked for"
        self._say(
            f"torture: seed {self.plan.seed}, {self.plan.seconds:g} s, {self.plan.nodes} nodes on "
            f"{self.place.name}, {len(self.plan.faults)} faults"
        )
        for reason in sorted(set(self.lacks.values()) - {"not asked for"}):
            kinds = [kind for kind, why in self.lacks.items() if why == reason]
            self._say(f"  left out: {', '.join(kinds)}: {reason}")
        numbers = range(1, self.plan.nodes + 1)
        self.journal = open(self.run_dir / "faults.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.cluster = Cluster(self.place, numbers, self.binary, self.run_dir, self._tell)
        for node in self.cluster.nodes.values():
            node.start()
        self._wait_level(READY_S)
        self._start_loads()
        for fault in self.plan.faults:
            if fault.kind not in self.lacks:
                self._at(fault.at_s, lambda fault=fault: self._inflict(fault))
        self._at(self.plan.seconds - torture_plan.QUIET_S, self._heal_all)
        loads = [*self.benches.values(), self.stores]
        self._loop_until(lambda: all(load.poll() is not None for load in loads))
        level_s = self._wait_level(RECOVERY_S)
        self._stop_nodes()
        run = self._judge(level_s)
        lines = report.summary(run)
        (self.run_dir / "summary.txt").write_text("\n".join(lines) + "\n")
        print("\n" + "\n".join(lines), flush=True)
        return 1 if self.violations else 0

    def _place(self):
        if self.options.loopback or "network" not in sandbox.isolation():
            return places.Loopback(self.plan.nodes)
        try:
            import mininet.net  # noqa: F401, PLC0415
        except ImportError:
            return places.Loopback(self.plan.nodes)
        return places.Emulated(self.plan.nodes)

    def _start_loads(self):
        self.cluster.began = time.monotonic()
        self.zero_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        for number, (load, (rate, extra)) in enumerate(LOADS.items()):
            name = self.run_dir / "bench" / load
            command = [
                str(self.binary), "bench", "--nodes", self.cluster.client_addresses(),
                *extra.split(),
                "--clients", str(CLIENTS), "--in-flight", str(IN_FLIGHT),
                "--duration", f"{self.plan.seconds}s", "--warmup", "0s",
                "--op-timeout", "500ms", "--quiet", "--seed", str(self.plan.seed + number),
                "--json", f"{name}.json", "--trace", f"{name}.trace",
                "--history", f"{name}.history",
            ]  # fmt: skip
            if not self.options.fast:
                command += ["--rate", str(rate)]
            with open(f"{name}.log", "ab") as log:
                self.benches[load] = self.place.popen(
                    None, command, stdout=log, stderr=log, preexec_fn=places.before_exec(0)
                )

        command = [
            sys.executable, "-B", str(REPOSITORY / "mininet" / "torture_loads.py"),
            "--nodes", self.cluster.client_addresses(), "--seconds", str(self.plan.seconds),
            "--seed", str(self.plan.seed), "--out", str(self.run_dir / "bench" / "stores.json"),
        ]  # fmt: skip
        if self.options.fast:
            command.append("--fast")
        with open(self.run_dir / "bench" / "stores.log", "ab") as log:
            self.stores = self.place.popen(
                None, command, stdout=log, stderr=log, preexec_fn=places.before_exec(0)
            )

    def _loop_until(self, ended):
        limit_s = self.plan.seconds + BENCH_GRACE_S
        measured_s = 0.0
        while not ended():
            now_s = self.cluster.now_s()
            if limit_s < now_s:
                self.violations.append(f"the load did not end within {limit_s:g} s")
                return
            self._turn(now_s)
            if now_s - measured_s > 0.5:
                measured_s = now_s
                for node in self.cluster.nodes.values():
                    node.measure()
            time.sleep(TICK_S)

    def _turn(self, now_s):
        """Sees what became of the nodes, and does what is due."""
        self._look()
        for node in self.cluster.nodes.values():
            if not node.life and node.restart_at_s is not None and node.restart_at_s <= now_s:
                node.start(**node.restart_with)
        while self.due and self.due[0][0] <= now_s:
            self.due.pop(0)[2]()
        self._note_health()

    def _look(self):
        for node in self.cluster.nodes.values():
            for violation in node.look():
                self._say(f"  VIOLATION: {violation}")
                self.violations.append(violation)

    def _note_health(self):
        """Whether some node that is well reaches a majority that is: then one can lead."""
        nodes = self.cluster.nodes
        well = {number for number, node in nodes.items() if node.health() == "well"}
        cut = set(self.cut or ())
        reached = [[b for b in well if a == b or not {(a, b), (b, a)} & cut] for a in well]
        majority = any(len(nodes) < 2 * len(each) for each in reached)
        if not self.majority or self.majority[-1][1] != majority:
            self.majority.append((self.cluster.now_s(), majority))

    def _at(self, seconds, call):
        self.calls += 1
        self.due.append((seconds, self.calls, call))
        self.due.sort()

    # Faults

    def _inflict(self, fault):
        node = self._victim(fault)
        if node is None:
            self.skipped += 1
            return
        now_s = self.cluster.now_s()
        # So that a node that was just started gets to serve before the next one.
        node.busy_until_s = now_s + fault.for_s + 0.5
        words = self._carry_out(fault, node)
        self.done[fault.kind] += 1
        self._say(f"  {now_s:6.1f} s  {words}")
        line = {**asdict(fault), "time_s": round(now_s, 3), "victim": node.number, "words": words}
        self._record(line)

    def _victim(self, fault):
        """The node meant, or the next one that can take it."""
        nodes = self.cluster.nodes
        # The last one has a disk of its own. And the same one is damaged again and again: at two
        # nodes in the same place, what was acknowledged may be gone.
        only = {"full-disk": self.plan.nodes, "damage": 1}.get(fault.kind)
        first = only or fault.node or self.cluster.leader() or 1
        now_s = self.cluster.now_s()
        for step in range(1 if only else self.plan.nodes):
            node = nodes[(first - 1 + step) % self.plan.nodes + 1]
            free = node.life and not node.paused and node.busy_until_s <= now_s
            if free or fault.kind in (*NETWORK, "kill-all"):
                return node
        return None

    def _carry_out(self, fault, node):
        """Does it, and has it undone in time; returns what was done, in words."""
        number, kind, for_s = node.number, fault.kind, fault.for_s
        leads = " (leader)" if number == self.cluster.leader() else ""
        if kind in NETWORK:
            pairs = torture_plan.cut_pairs(fault, number, self.plan.nodes)
            self._set_links(pairs)
            self._at(self.cluster.now_s() + for_s, lambda: self._heal_links(pairs))
            other = f" and n{pairs[0][1]}" if kind in ("cut", "one-way") else ""
            other = other.replace("and", "to") if kind == "one-way" else other
            return f"{kind} n{number}{other}{leads} for {for_s:.1f} s"
        if kind == "kill-all":
            for each in self.cluster.nodes.values():
                if each.life:
                    each.end(signal.SIGKILL, -signal.SIGKILL)
                    each.restart_in(for_s)
            return f"kill all, start after {for_s:.1f} s"
        if kind == "pause":
            node.pause()
            life = node.life.number
            self._at(self.cluster.now_s() + for_s, lambda: node.resume(life))
            return f"pause n{number}{leads} for {for_s:.1f} s"
        if kind == "full-disk":
            node.fill_disk()
            node.restart_in(for_s)
            self._at(self.cluster.now_s() + for_s, node.free_disk)
            return f"full disk n{number}{leads} for {for_s:.1f} s"
        if kind == "stop":
            # Before it serves it may not yet watch for signals, and then this one just ends it.
            node.end(signal.SIGTERM, 0, *(() if node.life.serving else (-signal.SIGTERM,)))
            node.restart_in(for_s)
            return f"stop n{number}{leads}, start after {for_s:.1f} s"
        node.end(signal.SIGKILL, -signal.SIGKILL)
        if kind == "transfer":
            self.asked.append(self.cluster.transfer(number))
            return f"hand the lead over to n{number}{leads}"
        if kind == "damage":
            node.restart_in(for_s, damage_seed=fault.amount)
            return f"damage n{number}{leads}, start after {for_s:.1f} s"
        if kind == "clock":
            node.restart_in(for_s, clock_s=fault.amount)
            return f"restart n{number}{leads}, clock {fault.amount:+,} s"
        if kind == "sync-fails":
            node.restart_in(0, fail_sync=fault.amount)
            return f"restart n{number}{leads}, sync {fault.amount} of each thread fails"
        if kind == "slow-disk":
            node.restart_in(0, slow_ms=fault.amount)
            life = node.lives + 1
            self._at(self.cluster.now_s() + for_s, lambda: self._end_strained(node, life))
            return f"restart n{number}{leads}, syncs take {fault.amount} ms more, {for_s:.1f} s"
        node.restart_in(for_s)
        return f"kill n{number}{leads}, start after {for_s:.1f} s"

    def _end_strained(self, node, life):
        """Starts a node anew without strace, if it is still that life."""
        if node.life and node.life.number == life:
            node.end(signal.SIGKILL, -signal.SIGKILL)
            node.restart_in(0)

    def _set_links(self, pairs):
        if self.cut:
            self.place.links.heal()
        self.cut = pairs
        self.place.links.cut(pairs)

    def _heal_links(self, pairs):
        # One that came later has replaced it.
        if self.cut is pairs:
            self.place.links.heal()
            self.cut = None

    def _heal_all(self):
        """The end of all faults: whole links, room on the disk, every node started and in peace."""
        self.due.clear()
        if self.cut:
            self._heal_links(self.cut)
        for node in self.cluster.nodes.values():
            node.free_disk()
            if node.paused:
                node.resume(node.life.number)
            if node.life and (node.life.strained or node.life.expected):
                # It may yet meet its failing sync, or be about to end.
                node.end(signal.SIGKILL, -signal.SIGKILL)
            if not node.life or node.life.expected:
                node.restart_in(0)
        self._say(f"  {self.cluster.now_s():6.1f} s  all faults end")
        self._record({"kind": "heal", "time_s": round(self.cluster.now_s(), 3)})

    # The end

    def _wait_level(self, limit_s):
        """Waits until all nodes serve and hold the same; returns how long that took, or `None`."""
        begin = time.monotonic()
        answers = {}
        while time.monotonic() - begin < limit_s:
            self._turn(self.cluster.now_s())
            answers = self.cluster.status()
            states = {(s["applied"], s["digest"]) for s in answers.values()}
            leaders = {s["leader"] for s in answers.values()}
            if len(answers) == self.plan.nodes and len(states) == 1 and leaders != {None}:
                return time.monotonic() - begin
            time.sleep(0.1)
        said = {f"n{n}": (s["applied"], s["digest"][:8]) for n, s in answers.items()}
        self.violations.append(f"the nodes were not level within {limit_s} s: {said}")
        return None

    def _stop_nodes(self):
        """SIGTERM for all; then each log must be whole."""
        for node in self.cluster.nodes.values():
            if node.life:
                node.end(signal.SIGTERM, 0)
                node.restart_in(float("inf"))
        deadline = time.monotonic() + STOP_S
        while any(node.life for node in self.cluster.nodes.values()):
            if deadline < time.monotonic():
                alive = [f"n{n}" for n, node in self.cluster.nodes.items() if node.life]
                self.violations.append(f"{', '.join(alive)} did not end within {STOP_S} s")
                return
            self._look()
            time.sleep(TICK_S)
        for number, node in self.cluster.nodes.items():
            command = [self.binary, "wal", "inspect", str(node.home / "data")]
            with open(self.run_dir / "logs" / f"n{number}.inspect", "wb") as out:
                done = subprocess.run(command, stdout=out, stderr=out, check=False)
            # What was damaged stays as it is; what it took is learned again and written behind.
            if done.returncode not in (0, *([DAMAGED] if node.damaged else [])):
                said = f"{self.run_dir}/logs/n{number}.inspect"
                self.violations.append(
                    f"wal inspect of n{number}: exit code {done.returncode}, {said}"
                )
            else:
                os.truncate(out.name, 0)

    def _judge(self, level_s):
        """Everything that is known in the end; adds the last violations."""
        checked = []
        for load, bench in self.benches.items():
            code = bench.poll()
            path = self.run_dir / "bench" / f"{load}.json"
            check = json.loads(path.read_text())["check"] if path.exists() else None
            if code != 0:
                log = path.with_suffix(".log").read_text(errors="replace").strip()
                self.violations.append(f"bench {load} ended with {code}: {log[-300:]}")
            if "--check" not in LOADS[load][1]:
                continue
            if not check:
                self.violations.append(f"bench {load} checked nothing")
                continue
            wrong = {name: check[name] for name in ("lost", "duplicated", "stale", "unexpected")}
            if any(wrong.values()):
                self.violations.append(f"bench {load}: {wrong}, {check['examples']}")
            checked.append(f"{load} {check['keys']:,} keys")
        self._check_histories(checked)
        lines = self._judge_stores()
        for process in self.asked:
            if process.poll() not in ASKED_CODES:
                said = f"{process.poll()}, {self.run_dir}/logs/transfer.log"
                self.violations.append(f"a request of an operator ended with {said}")
        memory = max(node.memory_mib for node in self.cluster.nodes.values())
        if memory > MEMORY_MAX_MIB:
            self.violations.append(f"a node took {memory:.0f} MiB; {MEMORY_MAX_MIB} are allowed")
        traces = sorted((self.run_dir / "bench").glob("*.trace"))
        times, outcomes = report.replies(traces, self.zero_ns)
        gaps = [
            (begin, end, report.well_for((begin, end), self.majority))
            for begin, end in report.gaps(times)
        ]
        for at, is_there in self.majority:
            self._record({"kind": "majority", "time_s": round(at, 3), "is_there": is_there})
        return {
            "plan": self.plan,
            "place": self.place.name,
            "lacks": self.lacks,
            "done": self.done,
            "skipped": self.skipped,
            "outcomes": outcomes,
            "checked": ", ".join(checked) or "nothing",
            "stores": lines,
            "lives": sum(node.lives for node in self.cluster.nodes.values()),
            "ends": self.cluster.ends,
            "memory_mib": memory,
            "level_s": "never" if level_s is None else f"{level_s:.1f} s after the load",
            "gaps": gaps,
            "violations": self.violations,
        }

    def _judge_stores(self):
        """What the load of rows, transactions, locks and watches found; returns its lines."""
        path = self.run_dir / "bench" / "stores.json"
        if self.stores.poll() != 0 or not path.exists():
            log = path.with_suffix(".log").read_text(errors="replace").strip()
            self.violations.append(f"{path.stem} ended with {self.stores.poll()}: {log[-300:]}")
            return {}
        found = json.loads(path.read_text())
        self.violations += found["wrong"]
        return found["lines"]

    def _check_histories(self, checked):
        """Linearizability of what clients saw, and agreement of what nodes chose."""
        done = subprocess.run(
            [self.binary, "check", self.run_dir], capture_output=True, text=True, check=False
        )
        (self.run_dir / "check.txt").write_text(done.stdout + done.stderr)
        if done.returncode == 0:
            checked.append("linearizable")
        else:
            said = f"exit code {done.returncode}, {self.run_dir}/check.txt"
            self.violations.append(f"loggos check: {said}")

    def take_down(self):
        """Ends every process and the network, whatever happened before."""
        for process in [*self.benches.values(), self.stores, *self.asked]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.cluster:
            self.cluster.kill_rest()
        if self.place:
            self.place.stop()
        if self.journal:
            self.journal.close()

    # What is told

    def _say(self, text):
        print(text[:79], flush=True)

    def _tell(self, text):
        self._record({"kind": "told", "time_s": round(self.cluster.now_s(), 3), "words": text})

    def _record(self, line):
        self.journal.write(json.dumps(line) + "\n")
        self.journal.flush()


if __name__ == "__main__":
    sys.exit(main())
