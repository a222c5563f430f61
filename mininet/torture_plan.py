"""What is done to the nodes, and when: drawn from one seed, as data.

The same seed and length give the same plan on every machine; what a machine does not allow is left
out when its time comes. Which node leads is found out then, too.
"""

import random
from dataclasses import dataclass

# Faults begin after the load has, and end before it does: so the last part of the load runs on
# whole nodes, and the check in the end reads from them.
FIRST_S = 1.0
QUIET_S = 4.0

# Kind, how often against the others, shortest and longest time, and words for people.
KINDS = {
    "kill": (5, 0.0, 1.5, "kill -9 of a node"),
    "kill-all": (1, 0.0, 0.5, "kill -9 of all nodes at once"),
    "stop": (3, 0.0, 1.0, "SIGTERM, exit code 0 awaited"),
    "pause": (4, 0.1, 2.0, "SIGSTOP, then SIGCONT"),
    "isolate": (2, 0.3, 3.0, "no link to any other node"),
    "cut": (3, 0.3, 3.0, "one link cut"),
    "one-way": (3, 0.3, 3.0, "one link cut in one direction"),
    "deaf": (2, 0.3, 3.0, "a node hears no other"),
    "mute": (2, 0.3, 3.0, "a node is heard by no other"),
    "clock": (2, 0.0, 0.3, "restart with another monotonic clock"),
    "sync-fails": (2, 4.0, 6.0, "one sync ends in EIO, exit code 74 awaited"),
    "slow-disk": (1, 2.0, 5.0, "every sync takes longer"),
    "damage": (2, 0.0, 0.5, "bits, sectors or files of a log gone while it is down"),
    "transfer": (2, 0.0, 0.0, "the lead handed over, as an operator asks for it"),
    "full-disk": (1, 6.0, 12.0, "no room on a node's disk"),
}
NETWORK = ("isolate", "cut", "one-way", "deaf", "mute")


@dataclass(frozen=True)
class Fault:
    """One fault. `node` is the one meant, `None` for the leader; `other` is a neighbour of it."""

    number: int
    kind: str
    at_s: float
    for_s: float
    node: int | None
    other: int
    # Of a clock: seconds that it jumps; of failing syncs: which one fails; of slow ones: ms each;
    # of damage: the seed of its place.
    amount: int


@dataclass(frozen=True)
class Plan:
    """All that the seed decides."""

    seed: int
    seconds: float
    nodes: int
    faults: tuple[Fault, ...]


def draw(seed, seconds, nodes=None):
    """The plan of a seed; `nodes` instead of the number that the seed draws."""
    dice = random.Random(seed)
    drawn = dice.choice((3, 3, 5))
    nodes = nodes or drawn
    faults = []
    # Each kind comes once before chance decides.
    order = list(KINDS)
    dice.shuffle(order)
    at = FIRST_S
    while at < seconds - QUIET_S:
        weights = [weight for weight, *_ in KINDS.values()]
        kind = order.pop() if order else dice.choices(list(KINDS), weights)[0]
        _, shortest, longest, _ = KINDS[kind]
        faults.append(
            Fault(
                number=len(faults) + 1,
                kind=kind,
                at_s=round(at, 3),
                for_s=round(dice.uniform(shortest, longest), 3),
                node=None if dice.random() < 0.4 else dice.randint(1, nodes),
                other=dice.randint(1, nodes - 1),
                amount=_amount(kind, dice),
            )
        )
        at += dice.uniform(0.2, 2.5)
    return Plan(seed, seconds, nodes, tuple(faults))


def _amount(kind, dice):
    if kind == "clock":
        # Back as far as every machine has been up, and ahead as far as none has.
        return dice.choice((-30, -5, 60, 86_400, 400 * 86_400))
    if kind == "sync-fails":
        return dice.choice((1, 2, 5, 20, 100, 300))
    if kind == "damage":
        return dice.randrange(1_000_000)
    return dice.choice((5, 20, 50, 100, 300))


def cut_pairs(fault, node, nodes):
    """The ordered pairs of nodes between which a network fault lets nothing through."""
    others = [n for n in range(1, nodes + 1) if n != node]
    other = others[fault.other - 1]
    out, back = [(node, n) for n in others], [(n, node) for n in others]
    return {
        "isolate": out + back,
        "cut": [(node, other), (other, node)],
        "one-way": [(node, other)],
        "deaf": back,
        "mute": out,
    }[fault.kind]
