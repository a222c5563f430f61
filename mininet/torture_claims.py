"""What clients know of their own operations, and whether what is found in the end agrees."""

# So many examples of each kind of error are told.
import itertools

EXAMPLES = 3


class Claims:
    """Of each name: True, it is there; False, it is not; None, nobody knows. The last word
    counts."""

    def __init__(self):
        self.all = {}

    def note(self, name, is_there):
        """What is known of it now."""
        self.all[name] = is_there

    def add(self, others):
        """Those of another client, on other names."""
        self.all |= others.all

    def bounds(self):
        """How many may be there."""
        known = list(self.all.values())
        return known.count(True), known.count(True) + known.count(None)

    def judge(self, found):
        """What is wrong with these names, counted by how often each was found."""
        lost = [name for name, is_there in self.all.items() if is_there and not found[name]]
        return (
            _told("lost", lost)
            + _told("there again", [name for name, count in found.items() if count > 1])
            + _told("there, but never happened", self._ghosts(found))
        )

    def _ghosts(self, found):
        return [name for name in found if self.all.get(name, False) is False]


def _told(what, names):
    if not names:
        return []
    examples = ", ".join(str(name) for name in sorted(names)[:EXAMPLES])
    return [f"{what}: {len(names)}, {examples}"]


def out_of_order(rows):
    """Appends, as they lie in the table, that are not behind the one before."""
    pairs = itertools.pairwise(rows)
    wrong = [f"{before} {after}" for before, after in pairs if after <= before]
    return _told("append out of order", wrong)


def tokens_back(taken):
    """Locks, as (asked, answered, token), whose token is no larger than one that was answered
    before they were asked for."""
    answered = sorted(taken, key=lambda lock: lock[1])
    highest, at, wrong = 0, 0, []
    for asked, _, token in sorted(taken):
        while at < len(answered) and answered[at][1] < asked:
            highest = max(highest, answered[at][2])
            at += 1
        if token <= highest:
            wrong.append(f"{token} behind {highest}")
    return _told("token that does not grow", wrong)


class Watched:
    """A counter that goes up or down by one, as a watcher is told of it: each change once, and in
    order."""

    def __init__(self, key):
        self.key = key
        self.count = 0
        self.value = None
        self.slot = 0
        self.wrong = []

    def begin_anew(self):
        """What happened until now nobody knows."""
        self.value = None

    def take(self, change):
        """The next change, of any key."""
        self.count += 1
        if change.slot < self.slot:
            self.wrong.append(f"slot {change.slot} is told behind slot {self.slot}")
        self.slot = change.slot
        if change.key != self.key:
            return
        value = int(change.value)
        if self.value is not None and abs(value - self.value) != 1:
            self.wrong.append(f"{value} behind {self.value} in slot {change.slot}")
        self.value = value
