"""The partial partitions of the experiment `partition`, as data: which links are cut, and how long.

Nodes are named by what they are when it begins: 0 leads, 1, 2, ... follow (which of them is which
is drawn anew each time). A pair `(a, b)` is what a sends to b. Clients reach all nodes throughout.

The names are those of the Omni-Paxos paper (EuroSys 2023) and of the report on ChiselStore, whose
three tests begin with nobody in the lead; there the links that appear are what counts.
"""

from dataclasses import dataclass
from itertools import combinations, permutations

# Longer than a node needs to see that it has no quorum, and to give its silent connections up.
BLACKOUT_TIMEOUTS = 6.0
# Long enough that the node has missed some hundred slots, and short of giving up its connections.
BEHIND_TIMEOUTS = 3.0
# From the change of links until they are healed: the bar of four timeouts, and time to see that the
# leader stays.
WATCHED_TIMEOUTS = 6.0


@dataclass(frozen=True)
class Phase:
    """Links for a time: pairs that let nothing through, and those that lose packets."""

    timeouts: float
    cut: frozenset = frozenset()
    lossy: frozenset = frozenset()


@dataclass(frozen=True)
class Case:
    """One course of a scenario. `before` leads up to it; `phases` are measured."""

    name: str
    phases: tuple[Phase, ...]
    before: tuple[Phase, ...] = ()

    @property
    def once(self):
        """Whether links change once, so that there is a moment from which to count."""
        return len(self.phases) == 1 and not self.phases[0].lossy


@dataclass(frozen=True)
class Scenario:
    """What happens to the links, in words, and the courses that it can take."""

    name: str
    words: str
    cases: tuple[Case, ...]

    def plays(self, experiment):
        """The cases in the order in which they are played, each as often as any other."""
        of_case = -(-experiment.repetitions // len(self.cases))
        return self.cases * max(of_case, experiment.repetitions_of_case)


def everything(nodes):
    """All pairs."""
    return frozenset(permutations(range(nodes), 2))


def both(*links):
    """Both directions of links."""
    return frozenset(pair for a, b in links for pair in ((a, b), (b, a)))


def only(nodes, *links):
    """What is cut where only these links are left."""
    return everything(nodes) - both(*links)


def of(node, nodes):
    """All pairs of one node."""
    return frozenset(pair for pair in everything(nodes) if node in pair)


def all_scenarios(nodes):
    """Every scenario for a cluster of that size (3 or 5), in the order of the tables."""
    hub_links = [(1, other) for other in range(nodes) if other != 1]
    chain_links = [(node, node + 1) for node in range(nodes - 1)]
    watch, dark = WATCHED_TIMEOUTS, Phase(BLACKOUT_TIMEOUTS, everything(nodes))
    found = [
        Scenario(
            "quorum-loss",
            # Of three nodes, a leader with one link has its quorum. It loses it by hearing nobody.
            "the leader hears nobody and is heard by all"
            if nodes == 3
            else "the leader keeps one link, to the only node that reaches all",
            (_once("", of_deaf(0, nodes) if nodes == 3 else only(nodes, *hub_links), watch),),
        ),
        Scenario(
            "constrained",
            "the leader is gone, and the only node that reaches the others was cut off before",
            (
                Case(
                    "",
                    (Phase(watch, only(nodes, *hub_links) | of(0, nodes)),),
                    (Phase(BEHIND_TIMEOUTS, of(1, nodes)),),
                ),
            ),
        ),
        Scenario(
            "chained",
            "links only along a chain, the leader at one end",
            (_once("", only(nodes, *chain_links), watch),),
        ),
        Scenario(
            "all-connected",
            "from no link at all to all links",
            (Case("", (Phase(watch),), (dark,)),),
        ),
        Scenario(
            "one-hub",
            "from no link at all to those of one node",
            (Case("", (Phase(watch, only(nodes, *hub_links)),), (dark,)),),
        ),
        Scenario(
            "two-hubs",
            "from no link at all to those of two nodes, but not the one between them",
            (Case("", (Phase(watch, only(nodes, *_two_hubs(nodes))),), (dark,)),),
        ),
        Scenario(
            "one-way",
            "one link cut in one direction, every case",
            tuple(_once(words(cut), cut, watch) for cut in one_way_cuts(nodes, 1)),
        ),
        Scenario(
            "two-one-way",
            "two links, or both directions of one, cut one way, every case",
            tuple(_once(words(cut), cut, watch) for cut in one_way_cuts(nodes, 2)),
        ),
        Scenario(
            "flapping",
            "links go down and up, one heartbeat each",
            (
                _flapping("one link of the leader", both((0, 1))),
                _flapping("all links of the leader", of(0, nodes)),
                _flapping("one link of followers", both((1, 2))),
            ),
        ),
        Scenario(
            "moving",
            "another link is cut every second",
            (Case("", tuple(Phase(10.0, both(link)) for link in _tour(nodes))),),
        ),
        Scenario(
            "lossy",
            "every link between nodes loses packets",
            (Case("", (Phase(10.0, lossy=everything(nodes)),)),),
        ),
        Scenario(
            "followers",
            "the link between two followers is cut",
            (_once("", both((1, 2)), watch),),
        ),
    ]
    return {scenario.name: scenario for scenario in found}


def of_experiment(experiment, nodes):
    """Those that it plays, in the same order."""
    found = all_scenarios(nodes)
    return [found[name] for name in experiment.scenarios or found]


def of_deaf(node, nodes):
    """All that one node would hear."""
    return frozenset((other, node) for other in range(nodes) if other != node)


def _once(name, cut, timeouts):
    return Case(name, (Phase(timeouts, frozenset(cut)),))


def _flapping(name, cut):
    return Case(name, tuple(Phase(1.0, cut if at % 2 == 0 else frozenset()) for at in range(14)))


def _two_hubs(nodes):
    """The links of two hubs. Of three nodes, the third stands between them."""
    hubs = (1, 2)
    return [(hub, other) for hub in hubs for other in range(nodes) if other not in hubs]


def _tour(nodes):
    """A link of the leader, then another one of the leader."""
    return [(0, 1), (0, nodes - 1)]


def one_way_cuts(nodes, count):
    """The cuts of so many directed links, one of each kind: two that differ only in which follower
    is which are the same, since that is drawn."""
    kinds = {}
    for cut in combinations(sorted(everything(nodes)), count):
        kinds.setdefault(_kind(cut, nodes), frozenset(cut))
    return sorted(kinds.values(), key=sorted)


def _kind(cut, nodes):
    """The smallest form of a cut over all ways to name the followers."""
    namings = permutations(range(1, nodes))
    return min(
        tuple(sorted((name[a], name[b]) for a, b in cut))
        for name in ((0, *naming) for naming in namings)
    )


def words(cut):
    """`L→a, a→b`: the leader and followers by letters, in the order in which they come."""
    letters = {0: "L"}
    for pair in sorted(cut):
        for node in pair:
            letters.setdefault(node, "abcd"[len(letters) - 1])
    return ", ".join(f"{letters[a]}→{letters[b]}" for a, b in sorted(cut))
