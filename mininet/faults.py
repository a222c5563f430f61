"""Fault schedules as data: what is done to the cluster, and when.

A target is a node's name (`n2`) or a role, resolved at the moment of the fault:

    leader      the node that leads then
    follower    the first running node that does not lead, as the system lists them
    killed      the node that was killed last
    paused      the node that was paused last

`Schedule` carries the events out and writes a line for each into `faults.jsonl`, with the times of
CLOCK_MONOTONIC just before and just after: the base of all traces of this machine.
"""

import json
import os
import signal
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Kill:
    """SIGKILL: the process is gone at once, and with it all that it had not synced."""

    role: str


@dataclass(frozen=True)
class Restart:
    """Starts a killed node again, on the data directory it left behind."""

    role: str = "killed"


@dataclass(frozen=True)
class Pause:
    """SIGSTOP: the process keeps its connections and answers nobody."""

    role: str


@dataclass(frozen=True)
class Resume:
    """SIGCONT after `Pause`."""

    role: str = "paused"


@dataclass(frozen=True)
class CutLink:
    """No packet passes between two hosts, silently; with `one_way`, none from `a` to `b`."""

    a: str
    b: str
    one_way: bool = False


@dataclass(frozen=True)
class HealLink:
    """Heals every link that is cut."""


Action = Kill | Restart | Pause | Resume | CutLink | HealLink


@dataclass(frozen=True)
class At:
    """An action and its time, in seconds from the start of the load."""

    seconds: float
    action: Action


def words(action: Action) -> str:
    """The action as planned: `kill the leader`."""
    match action:
        case Kill(role) | Restart(role) | Pause(role) | Resume(role):
            return f"{type(action).__name__.lower()} {_the(role)}"
        case CutLink(a, b, one_way):
            return f"cut {_the(a)} {'to' if one_way else 'and'} {_the(b)}"
        case HealLink():
            return "heal all links"


def _the(role: str) -> str:
    known = ("leader", "follower")
    return f"the {role}" if role in known else f"the {role} node" if role.isalpha() else role


class Schedule:
    """Carries out events on a running system and records when that was."""

    def __init__(self, events, system, links, path):
        self.pending = sorted(events, key=lambda event: event.seconds)
        self.system = system
        self.links = links
        self.path = path
        self.number = 0
        self.remembered = {}

    def run_due(self, elapsed_s):
        """Carries out what is due and returns the labels of what was done."""
        done = []
        while self.pending and self.pending[0].seconds <= elapsed_s:
            done.append(self._carry_out(self.pending.pop(0)))
        return done

    def _carry_out(self, event):
        self.number += 1
        # Roles are looked up before the clock is read: asking takes a few milliseconds.
        kind, label, nodes, act = self._plan(event.action)
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        act()
        done_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        line = {
            "number": self.number,
            "planned_s": event.seconds,
            "time_ns": before_ns,
            "done_ns": done_ns,
            "action": kind,
            "label": label,
            "nodes": nodes,
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return label

    def _plan(self, action):
        """The action's kind, its label, the nodes it concerns, and what to call."""
        match action:
            case Kill(role):
                node = self._node(role, "killed")
                return "kill", self._label("kill", node, role), [node], lambda: self._kill(node)
            case Restart(role):
                node = self._node(role)
                return "restart", f"restart n{node}", [node], lambda: self.system.start(node)
            case Pause(role):
                node = self._node(role, "paused")
                return "pause", self._label("pause", node, role), [node], lambda: self._pause(node)
            case Resume(role):
                node = self._node(role)
                return "resume", f"resume n{node}", [node], lambda: self._resume(node)
            case CutLink(a, b, one_way):
                first, second = self._node(a), self._node(b)
                pairs = [(first, second)] if one_way else [(first, second), (second, first)]
                label = f"cut n{first}{'→' if one_way else '–'}n{second}"
                return "cut", label, [first, second], lambda: self.links.cut(pairs)
            case HealLink():
                return "heal", "heal", self.links.cut_nodes(), self.links.heal

    def _node(self, role, remember_as=None):
        if role == "leader":
            node = self.system.leader()
        elif role == "follower":
            node = self.system.followers()[0]
        elif role in self.remembered:
            node = self.remembered[role]
        elif role[:1] == "n" and role[1:].isdigit():
            node = int(role[1:])
        else:
            raise ValueError(f"the schedule names {role!r}, and there is no such node now")
        if remember_as:
            self.remembered[remember_as] = node
        return node

    @staticmethod
    def _label(verb, node, role):
        return f"{verb} n{node} ({role})" if role in ("leader", "follower") else f"{verb} n{node}"

    def _kill(self, node):
        self.system.expect_exit(node)
        os.kill(self.system.pid(node), signal.SIGKILL)

    def _pause(self, node):
        os.kill(self.system.pid(node), signal.SIGSTOP)
        self.system.paused.add(node)

    def _resume(self, node):
        os.kill(self.system.pid(node), signal.SIGCONT)
        self.system.paused.discard(node)
