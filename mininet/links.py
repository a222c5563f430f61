"""Links: cut and healed in either direction, made to lose packets, and shaped.

A cut is a rule on the switch (nftables, family `bridge`): silent like a broken cable somewhere in
the middle, both directions in one transaction, nothing to see on the hosts. Taking an interface
down would tell the host at once, which no real partition does. Where the kernel has no bridge
family, the receiving host drops instead; the sender's own output hook would make its call fail.

Delay needs netem, which not every kernel has. An experiment that asks for what the kernel can't do
fails; Mininet's own TCLink would go on without any delay.
"""

import subprocess

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


def have_netem():
    """Whether this kernel can delay packets, tried in a throwaway namespace."""
    command = ["unshare", "--net", "sh", "-c", "tc qdisc add dev lo root netem delay 1ms"]
    return _quiet(command) == 0


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
        self.shaping = "none"
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

    def shape(self, delay_ms, jitter_ms, loss_percent):
        """Delays (one way) and loses what every node's host sends; nothing if all are 0."""
        if not (delay_ms or jitter_ms or loss_percent):
            return
        if not have_netem():
            raise RuntimeError(
                "this experiment delays or loses packets, and this kernel has no netem "
                "(module sch_netem); run it on a kernel that has, or with delay and loss 0"
            )
        self.shaping = "netem"
        for host in self.star.nodes.values():
            netem = f"delay {delay_ms}ms {jitter_ms}ms loss {loss_percent}%"
            output = host.cmd(f"tc qdisc add dev {host.defaultIntf()} root netem {netem}")
            if output.strip():
                raise RuntimeError(f"netem on {host}: {output.strip()}")

    def describe(self):
        """What carries out cuts and delays, for the run's metadata."""
        return f"{self.backend} (cuts), {self.shaping} (delay and loss)"

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
