"""Links: cut and healed in either direction, made to lose packets, and shaped (`shaping.py`).

A cut is a rule on the switch (nftables, family `bridge`): silent like a broken cable somewhere in
the middle, both directions in one transaction, nothing to see on the hosts. Taking an interface
down would tell the host at once, which no real partition does. Where the kernel has no bridge
family, the receiving host drops instead; the sender's own output hook would make its call fail.
"""

import subprocess

import roundtrips
import shaping
from topology import node_address

BRIDGE_TABLE = """
table bridge loggos_lab {{
  set cut {{ type ifname . ifname; }}
  set lossy {{ type ifname . ifname; }}
  chain forward_cut {{
    type filter hook forward priority -300; policy accept;
    iifname . oifname @cut counter drop;
    iifname . oifname @lossy numgen random mod 1000 < {permille} counter drop;
  }}
}}
"""

HOST_TABLE = """
table inet loggos_lab {{
  set cut {{ type ipv4_addr; }}
  set lossy {{ type ipv4_addr; }}
  chain in_cut {{
    type filter hook input priority -300; policy accept;
    ip saddr @cut counter drop;
    ip saddr @lossy numgen random mod 1000 < {permille} counter drop;
  }}
}}
"""


def have_bridge_nft():
    """Whether nftables knows bridges here, tried in a throwaway namespace."""
    return _quiet(["unshare", "--net", "nft", "add table bridge loggos_probe"]) == 0


def _quiet(command):
    sink = subprocess.DEVNULL
    return subprocess.run(command, stdin=sink, stdout=sink, stderr=sink, check=False).returncode


class Links:
    """The links of a star between its nodes. `loss_permille`: of 1,000 packets of a lossy link."""

    def __init__(self, star, loss_permille=0):
        self.star = star
        self.backend = "nft-bridge" if have_bridge_nft() else "nft-host"
        self.shaping = None
        # Processes, by name, without which nothing here is as it should be.
        self.helpers = {}
        self.now_cut = frozenset()
        if self.backend == "nft-bridge":
            self.ports = {i: star.port(host) for i, host in star.nodes.items()}
            self._nft(BRIDGE_TABLE.format(permille=loss_permille))
        else:
            for host in star.nodes.values():
                self._nft(HOST_TABLE.format(permille=loss_permille), host)

    def set(self, cut, lossy=frozenset()):
        """Cuts these ordered pairs and no others: nothing from the first to the second arrives any
        more. Others lose packets. All of it changes at the same moment, on one switch."""
        self.now_cut = frozenset(cut)
        sets = {"cut": self.now_cut, "lossy": lossy}
        if self.backend == "nft-bridge":
            rules = []
            for name, pairs in sets.items():
                ports = (f'"{self.ports[a]}" . "{self.ports[b]}"' for a, b in pairs)
                rules += _refill(f"bridge loggos_lab {name}", ports)
            self._nft("\n".join(rules))
            return
        for b, host in self.star.nodes.items():
            rules = []
            for name, pairs in sets.items():
                addresses = (node_address(a) for a, to in pairs if to == b)
                rules += _refill(f"inet loggos_lab {name}", addresses)
            self._nft("\n".join(rules), host)

    def cut(self, pairs):
        """Cuts more ordered pairs."""
        self.set(self.now_cut | frozenset(pairs))

    def heal(self):
        """Heals everything that is cut or lossy."""
        self.set(frozenset())

    def cut_nodes(self):
        """The nodes that have a link cut."""
        return sorted({node for pair in self.now_cut for node in pair})

    def shape(self, pairs, seed):
        """Shapes these ordered pairs of hosts (by name: `shaping.Shape`) and no others; returns the
        round trips that were asked for and measured. Raises if these differ.
        """
        places = self.star.places()
        if not self.shaping:
            if not pairs:
                return {}
            self.shaping = shaping.backend(places, seed)
            if self.shaping.process:
                self.helpers[self.shaping.name] = self.shaping.process
        self.shaping.set(pairs)
        return roundtrips.measure(places, pairs)

    def describe(self):
        """What carries out cuts and delays, for the run's metadata."""
        by = self.shaping.name if self.shaping else "none"
        return f"{self.backend} (cuts), {by} (delay and loss)"

    def stop(self):
        """Ends what shapes links, and returns what that said of itself; None if nothing did."""
        if not self.shaping:
            return None
        report = self.shaping.report()
        self.shaping.stop()
        return report

    @staticmethod
    def _nft(rules, host=None):
        prefix = ["mnexec", "-a", str(host.pid)] if host else []
        done = subprocess.run(
            [*prefix, "nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"nft refused {rules.strip()!r}: {done.stderr.strip()}")


def _refill(name, elements):
    """Rules that let a set hold these elements and no others."""
    elements = ", ".join(elements)
    return [f"flush set {name}", *([f"add element {name} {{ {elements} }}"] if elements else [])]
