#!/usr/bin/python3
"""Rows, transactions over keys, rows and images, locks and watches under torture.

What `loggos bench` does for keys, by the client in Python: clients that know of each of their
operations that it happened, that it did not, or that it may have. Writes `--out`: a line for each
load, and what was wrong. Exit code 0, whatever was found.
"""

import argparse
import hashlib
import itertools
import json
import random
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "python"))

from loggos.client import (
    Client,
    Definite,
    Delete,
    DeleteImage,
    Error,
    Get,
    Held,
    Incr,
    Indefinite,
    Nearest,
    Put,
    Refused,
    SetImage,
    Sql,
)

import torture_claims as claims

# Operations a second of each client, and how long one may take while there are faults.
WRITERS, WRITER_RATE = 4, 25
MOVERS, MOVER_RATE = 2, 10
HOLDERS, HOLDER_RATE = 3, 15
TIMEOUT_S = 0.7
# At the beginning and in the end, when all is well or soon will be.
PATIENT_S = 60
# A row with such a number is refused by the table.
REFUSED_EVERY = 20
# All images of these loads must fit one reply.
MOVES_MAX = 4_000
HASH_SIZE = 20
# So much of what is wrong is told of each load: a row too many is counted again and again.
EXAMPLES = 4
LOCK = "torture/lock"
LOCK_TTL_S = (0.2, 0.6)
MOVED, ENDED = "torture/moved", "torture/ended"
WATCHED = "torture/"
INSERT = "INSERT INTO numbers VALUES (?, ?)"
TABLES = (
    # Nothing is unique in them: a row that is inserted twice shall show.
    f"CREATE TABLE numbers (n INTEGER CHECK (n % {REFUSED_EVERY} <> 0), writer INTEGER)",
    "CREATE INDEX of_writers ON numbers (writer)",
    "CREATE TABLE moved (n INTEGER)",
    "CREATE INDEX of_moved ON moved (n)",
    "CREATE TABLE appended (id INTEGER PRIMARY KEY, token INTEGER, step INTEGER)",
)


class Load:
    """What all loads know: the nodes, how long it goes, and what was wrong."""

    def __init__(self, options):
        self.nodes = options.nodes.split(",")
        self.ends = time.monotonic() + options.seconds
        self.fast = options.fast
        self.seed = options.seed
        self.outcomes = Counter()
        self.wrong = []
        self.lock = threading.Lock()

    def client(self, at, timeout=TIMEOUT_S):
        """A client that begins with another node than the one before."""
        at %= len(self.nodes)
        return Client([*self.nodes[at:], *self.nodes[:at]], timeout)

    def turns(self, rate):
        """Numbers from 1, so many a second, until the time is over."""
        due = time.monotonic()
        for number in itertools.count(1):
            due = max(due + 1 / rate, time.monotonic() - 1)
            if not self.fast:
                time.sleep(max(0.0, due - time.monotonic()))
            if self.ends <= time.monotonic():
                return
            yield number

    def tell(self, what):
        """Something is wrong."""
        with self.lock:
            self.wrong.append(what)

    def attempt(self, call):
        """True: it happened, False: it did not and never will, None: nobody knows; and what came
        of it, the refusal included."""
        try:
            found, done = call(), True
        except Refused as refused:
            found, done = refused, False
        except Definite as error:
            found, done = error, False
        except Indefinite as error:
            found, done = error, None
        name = {True: "done", None: "unknown"}.get(done)
        name = name or ("refused" if isinstance(found, Refused) else "failed")
        with self.lock:
            self.outcomes[name] += 1
        return done, found

    def counts(self):
        """The outcomes in words."""
        names = ("done", "refused", "failed", "unknown")
        return ", ".join(f"{self.outcomes[name]:,} {name}" for name in names)


class Rows(Load):
    """Single rows, each with a number of its own; and each client counts its own in between."""

    def __init__(self, options):
        super().__init__(options)
        self.claims = claims.Claims()

    def threads(self):
        """What runs beside each other."""
        return [lambda at=at: self._write(at) for at in range(WRITERS)]

    def _write(self, writer):
        claimed = claims.Claims()
        with self.client(writer) as client:
            for number in self.turns(WRITER_RATE):
                if number % 10 == 1:
                    self._count(client, writer, claimed)
                    continue
                n = writer * 10**9 + number
                done, found = self.attempt(lambda n=n: client.sql(INSERT, n, writer))
                is_bad = n % REFUSED_EVERY == 0
                if (done and is_bad) or (isinstance(found, Refused) and not is_bad):
                    self.tell(f"row {n}: {found}")
                claimed.note(n, done)
        with self.lock:
            self.claims.add(claimed)

    def _count(self, client, writer, claimed):
        text = "SELECT count(*) FROM numbers WHERE writer = ?"
        done, rows = self.attempt(lambda: client.query(text, writer))
        if done:
            (count,) = rows.rows[0]
            least, most = claimed.bounds()
            if not least <= count <= most:
                self.tell(f"writer {writer} reads {count} rows, not {least} to {most}")
        elif isinstance(rows, Refused):
            self.tell(f"a count is refused: {rows}")

    def judge(self, client):
        """In the end; returns the line of the summary."""
        found = Counter(n for (n,) in client.query("SELECT n FROM numbers"))
        self.wrong += [f"row {said}" for said in self.claims.judge(found)]
        return f"{self.counts()}; {found.total():,} rows"


class Moves(Load):
    """Transactions of three parts, one of a key, one of a row, one of an image: all or nothing."""

    def __init__(self, options):
        super().__init__(options)
        self.claims = claims.Claims()

    def threads(self):
        """What runs beside each other."""
        return [lambda at=at: self._move(at) for at in range(MOVERS)]

    def _move(self, mover):
        dice, claimed = random.Random(f"{self.seed} {mover}"), claims.Claims()
        with self.client(mover + 1) as client:
            for number in self.turns(MOVER_RATE):
                if number > MOVES_MAX / MOVERS:
                    break
                n, way = mover * 10**9 + number, dice.random()
                if way < 0.1:
                    self._compare(client)
                elif way < 0.2:
                    # The last step fails, and takes the others back.
                    steps = [*put_steps(n), Delete("torture/nothing")]
                    done, _ = self.attempt(lambda s=steps: client.transaction(then=s))
                    claimed.note(n, False)
                    if done:
                        self.tell(f"move {n} was done, though its last step fails")
                elif way < 0.4 and claimed.all:
                    self._take_back(client, claimed, dice.choice(list(claimed.all)))
                else:
                    steps = put_steps(n)
                    done, found = self.attempt(lambda s=steps: client.transaction(then=s))
                    claimed.note(n, done)
                    if isinstance(found, Refused):
                        self.tell(f"move {n} is refused: {found}")
        with self.lock:
            self.claims.add(claimed)

    def _take_back(self, client, claimed, n):
        was = claimed.all[n]
        text = "DELETE FROM moved WHERE n = ?"
        steps = [Incr(MOVED, -1), Sql(text, n), DeleteImage(hash_of(n))]
        done, found = self.attempt(lambda: client.transaction(then=steps))
        if isinstance(found, Refused):
            # Then there was no image, so that nothing of it may be there.
            if was is True:
                self.tell(f"move {n} is gone: {found}")
        elif done and was is False:
            self.tell(f"move {n} was there, though it never happened")
        elif done:
            claimed.note(n, False)
        elif done is None and was is not False:
            claimed.note(n, None)

    def _compare(self, client):
        """Key and rows as they are in one slot."""
        steps = [Get(MOVED), Sql("SELECT count(*) FROM moved")]
        done, found = self.attempt(lambda: client.transaction(then=steps))
        if done:
            key, rows = int(found.steps[0] or 0), found.steps[1].rows[0][0]
            if key != rows:
                self.tell(f"the key says {key}, and there are {rows} rows, at {client.decided}")

    def judge(self, client):
        """In the end; returns the line of the summary."""
        # In one slot: what is still open may come at any time.
        nearest = Nearest(bytes(HASH_SIZE), 8 * HASH_SIZE, MOVES_MAX)
        steps = [Get(MOVED), Sql("SELECT n FROM moved"), nearest]
        key, rows, images = client.transaction(then=steps).steps
        key, rows = int(key or 0), Counter(n for (n,) in rows)
        names = Counter(int(image.meta) for image in images)
        self.wrong += [f"row of move {said}" for said in self.claims.judge(rows)]
        if rows != names or key != rows.total():
            counts = f"{key} by the key, {rows.total()} rows, {names.total()} images"
            self.wrong.append(f"the three parts of moves do not agree: {counts}")
        return f"{self.counts()}; {key:,} keys, rows and images"


def put_steps(n):
    """The three parts of a transaction."""
    text = "INSERT INTO moved VALUES (?)"
    return [Incr(MOVED), Sql(text, n), SetImage(hash_of(n), str(n))]


def hash_of(n):
    """An image's."""
    return hashlib.sha256(str(n).encode()).digest()[:HASH_SIZE]


class Locks(Load):
    """Holders of one lock append under their token; some go on when their time is over."""

    def __init__(self, options):
        super().__init__(options)
        self.taken = []
        self.claims = claims.Claims()
        self.fenced = 0

    def threads(self):
        """What runs beside each other."""
        return [lambda at=at: self._hold(at) for at in range(HOLDERS)]

    def _hold(self, holder):
        dice = random.Random(f"{self.seed} holder {holder}")
        with self.client(holder + 2) as client:
            for _ in self.turns(HOLDER_RATE):
                ttl, asked = dice.uniform(*LOCK_TTL_S), time.monotonic()
                done, token = self.attempt(lambda t=ttl: client.lock(LOCK, str(holder), t))
                if not done:
                    continue
                with self.lock:
                    self.taken.append((asked, time.monotonic(), token))
                lapses = dice.random() < 0.3
                for step in range(dice.randint(1, 3)):
                    if not self._append(client, token, step):
                        break
                    time.sleep(dice.uniform(0, 2 * ttl if lapses else ttl / 6))
                if dice.random() < 0.7:
                    self.attempt(lambda t=token: client.unlock(LOCK, t))

    def _append(self, client, token, step):
        """Whether it is there for certain. Behind one that may yet come, nothing is appended."""
        text = "INSERT INTO appended (token, step) VALUES (?, ?)"
        then = [Sql(text, token, step)]
        done, found = self.attempt(lambda: client.transaction([Held(LOCK, token)], then))
        if isinstance(found, Refused):
            self.tell(f"an append is refused: {found}")
        held = found.held if done else done
        with self.lock:
            self.claims.note((token, step), held)
            self.fenced += done is True and not held
        return bool(held)

    def judge(self, client):
        """In the end; returns the line of the summary."""
        rows = client.query("SELECT token, step FROM appended ORDER BY id").rows
        self.wrong += [f"append {said}" for said in self.claims.judge(Counter(rows))]
        self.wrong += claims.out_of_order(rows)
        self.wrong += claims.tokens_back(self.taken)
        return f"{len(self.taken):,} tokens, {len(rows):,} appends, {self.fenced:,} fenced off"


class Watch(Load):
    """A watch of what the other loads do to their keys."""

    def __init__(self, options):
        super().__init__(options)
        self.changes = claims.Watched(MOVED.encode())
        self.begun = 0
        self.ended = threading.Event()
        # What the counter was in the slot with which the watch ends.
        self.last = None

    def threads(self):
        """What runs beside the others."""
        return [self._watch]

    def _watch(self):
        client, ended = self.client(0, PATIENT_S), False
        while not ended:
            self.begun += 1
            self.changes.begin_anew()
            with client.watch(WATCHED) as watcher:
                try:
                    ended = self._listen(client, watcher)
                except Definite:
                    # No node knows any more what happened: all of them were started anew.
                    continue

    def _listen(self, client, watcher):
        if self.ended.is_set() and client.get(ENDED) is not None:
            return True
        while True:
            change = watcher.wait(1)
            if change is None:
                continue
            self.changes.take(change)
            if change.key == ENDED.encode():
                return True

    def end(self, client):
        """Has it end, when all others have."""
        # In this order: a watch that begins behind that slot must know.
        self.ended.set()
        (_, value) = client.transaction(then=[Put(ENDED, "now"), Get(MOVED)]).steps
        self.last = int(value or 0)

    def judge(self, _client):
        """When it has ended; returns the line of the summary."""
        if self.changes.value not in (None, self.last):
            told = self.changes.value
            self.changes.wrong.append(f"the last value told is {told}, not {self.last}")
        self.wrong += self.changes.wrong
        return f"{self.changes.count:,} changes, begun {self.begun} times"


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--fast", action="store_true", help="no pauses")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main():
    """All loads at once, then what came of them."""
    options = arguments()
    wrong, lines = [], {}
    patient = Client(options.nodes, PATIENT_S)
    for table in TABLES:
        patient.sql(table)
    loads = {"rows": Rows, "moves": Moves, "locks": Locks, "watch": Watch}
    loads = {name: load(options) for name, load in loads.items()}

    def guarded(name, run):
        try:
            run()
        except Exception:
            wrong.append(f"the load {name} itself failed: {traceback.format_exc()[-600:]}")

    running = {name: start(name, load, guarded) for name, load in loads.items()}
    for name in ("rows", "moves", "locks"):
        join(running[name])
    loads["watch"].end(patient)
    join(running["watch"])
    for name, load in loads.items():
        try:
            lines[name] = load.judge(patient)
        except Error as error:
            lines[name] = "not judged"
            wrong.append(f"{name} cannot be read: {error}")
        wrong += [f"{name}: {what}" for what in load.wrong[:EXAMPLES]]
        if len(load.wrong) > EXAMPLES:
            wrong.append(f"{name}: {len(load.wrong) - EXAMPLES} more, in {options.out}")
    everything = {name: load.wrong for name, load in loads.items()}
    found = {"lines": lines, "wrong": wrong, "all": everything}
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def start(name, load, guarded):
    """Runs the threads of a load."""
    threads = [
        threading.Thread(target=guarded, args=(name, run), daemon=True) for run in load.threads()
    ]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    """Waits for them."""
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
