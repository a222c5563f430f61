"""What every kind of experiment works with: the run's folder, clusters on emulated hosts, and what
must be taken down again."""

import sys
import time

from files import write_json
from links import Links
from systems.loggos import Loggos
from topology import Star
from writeback import WriteBack

CHECK_FAILED = 5


class Progress:
    """What happens, a line each; on a terminal also a line that counts."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.open_line = False

    def clear(self):
        """Takes the counting line away."""
        if self.open_line:
            print("\r\033[K", end="", flush=True)
            self.open_line = False

    def say(self, text):
        """A line that stays."""
        self.clear()
        print(text[:79], flush=True)

    def event(self, elapsed_s, text):
        """Something that was done to the cluster."""
        mark = f"\033[33m{text}\033[0m" if self.terminal else text
        self.say(f"  {elapsed_s:6.1f} s  {mark}")

    def count(self, done, of, text):
        """How far it is and what comes next."""
        if not self.terminal:
            return
        width = 24
        full = int(width * min(done / of, 1))
        bar = "=" * full + " " * (width - full)
        print("\r\033[K" + f"  [{bar}] {text}"[:79], end="", flush=True)
        self.open_line = True


class Lab:
    """One run: whatever it starts is known here, so that all of it can be ended."""

    def __init__(self, experiment, binary, run_dir):
        self.experiment = experiment
        self.binary = binary
        self.run_dir = run_dir
        self.progress = Progress()
        # What a reader must know of the run beside its parameters.
        self.environment = {}
        self.systems = []
        # Verdicts of `loggos check` on what was judged so far.
        self.verdicts = []
        self._parts = []
        self.began = time.monotonic()

    def network(self, experiment, folder, hosts):
        """So many hosts, those of clients, and their links, shaped as the experiment begins; what
        became of these is in `folder` in the end."""
        folder.mkdir(exist_ok=True)
        star = Star(hosts, experiment.client_hosts, experiment.congestion_control)
        self._parts.append(star.stop)
        star.start()
        links = Links(star, getattr(experiment, "loss_permille", 0))
        self._parts.append(lambda: self._note_shaping(folder, links))
        found = links.shape(experiment.shapes(), experiment.seed)
        if found:
            self.environment.setdefault("round_trips", {})[folder.name] = found
        self.environment["links"] = links.describe()
        self.environment["ping"] = star.ping()
        return star, links

    def deploy(self, experiment, folder, setup=None, adapter=Loggos):
        """A cluster on hosts of its own, not yet started; its files are in `folder`."""
        star, links = self.network(experiment, folder, adapter.hosts(experiment.nodes))
        system = adapter(experiment, star, self.binary, folder, setup)
        system.helpers = links.helpers
        self._parts.append(WriteBack(folder / "traces").stop)
        self._parts.append(system.kill_all)
        self.systems.append(system)
        system.deploy()
        return system, links

    def _note_shaping(self, folder, links):
        """Ends what shapes links, and keeps what it did."""
        report = links.stop()
        if report is not None:
            write_json(folder / "shaping.json", report)

    def take_down(self):
        """Ends processes, then the network; one that fails must not keep the next from its turn."""
        while self._parts:
            try:
                self._parts.pop()()
            except Exception as error:
                print(f"  cleaning up: {error}", file=sys.stderr)

    def elapsed_s(self):
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def say(self, text):
        """A line for whoever watches."""
        self.progress.say(text)
