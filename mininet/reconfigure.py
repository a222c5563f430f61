"""The experiment `reconfigure`: nodes are replaced one by one under load.

First one node, then all that are left, the leader among them. While that goes on, the bytes that
each node sends are counted at the switch. What happened when is in `reconfigure.jsonl`, a line
each, with times of CLOCK_MONOTONIC.
"""

import json
import signal
import time
from pathlib import Path

import loads
from systems.loggos import Setup

SAMPLE_S = 0.1
STEP_S = 120


def play(lab):
    """The load, and meanwhile one replacement after the other."""
    experiment = lab.experiment
    system, _ = lab.deploy(experiment, lab.run_dir, Setup(members=experiment.members))
    system.start_all()
    lab.say(f"  {len(system.nodes)} nodes are up, n{system.leader()} leads")
    watch = Watch(lab, system)
    benches = system.bench(experiment.rate, experiment.seed, "bench", trace=True)
    loads.wait_filled(system, benches, experiment.keys)
    watch.rest(experiment.pause_s)
    for old, new in experiment.replacements:
        leads = " (leader)" if old == system.leader() else ""
        began = watch.now_ns()
        replace(watch, system, old, new)
        watch.note(f"replace n{old}{leads} by n{new}", began, old=old, new=new)
        watch.rest(experiment.pause_s)
    loads.ended(system, benches)
    for process in benches.values():
        process.send_signal(signal.SIGINT)
    loads.wait_ended(system, benches)
    loads.end(lab, system)


def replace(watch, system, old, new):
    """A node joins, takes the place of another one, and that one is stopped."""
    system.join(new)
    for ask in (lambda: system.add_member(new), lambda: system.replace_member(old, new)):
        process = ask()
        watch.until(lambda process=process: process.poll() is not None, STEP_S)
        if process.returncode != 0:
            code = process.returncode
            raise RuntimeError(f"a change ended with {code}: {system.log_tail('member')}")
    system.leave(old)


class Watch:
    """Samples what each host sends while time passes, and notes what was done."""

    def __init__(self, lab, system):
        self.lab = lab
        self.system = system
        self.ports = {system.star.port(host): n for n, host in system.star.nodes.items()}
        self.path = lab.run_dir / "reconfigure.jsonl"

    def rest(self, seconds):
        """Lets so much time pass."""
        until = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= until, seconds + STEP_S)

    def until(self, done, limit_s):
        """Lets time pass until something is done."""
        deadline = time.monotonic() + limit_s
        while not done():
            if deadline < time.monotonic():
                raise RuntimeError(f"a step took more than {limit_s:g} s")
            self.system.check_alive()
            self._write({"kind": "sent", "time_ns": self.now_ns(), **self._sent()})
            time.sleep(SAMPLE_S)

    def note(self, label, began_ns, **what):
        """Something that was done from then until now."""
        ended_ns = self.now_ns()
        line = {"kind": "step", "label": label, "begin_ns": began_ns, "end_ns": ended_ns, **what}
        self._write(line)
        seconds = (ended_ns - began_ns) / 1e9
        self.lab.say(f"  {self.lab.elapsed_s():6.1f} s  {label}: {seconds:.1f} s")

    def _sent(self):
        """Bytes that each host has sent: what came in at its port of the switch."""
        found = {}
        for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
            port, _, counts = line.partition(":")
            if port.strip() in self.ports:
                found[f"n{self.ports[port.strip()]}"] = int(counts.split()[0])
        return found

    def _write(self, line):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @staticmethod
    def now_ns():
        """The base of all times."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
