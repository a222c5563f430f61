"""The emulated network: hosts `n1`... for nodes and `c1`... for clients on one Linux bridge.

A star, because then every packet passes one place, where links are cut without any host noticing
more than silence. A Linux bridge, because it needs no daemon and no kernel module beyond its own.
"""

import subprocess
import time

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge

from addresses import node_address
from shaping import Place

SWITCH = "s1"
FORWARDING_S = 10


class Star:
    """The network, from construction to `stop`; the attributes are Mininet's own objects."""

    def __init__(self, nodes, client_hosts, congestion_control):
        setLogLevel("error")
        self.net = Mininet(controller=None, switch=LinuxBridge, autoSetMacs=True)
        self.switch = self.net.addSwitch(SWITCH)
        self.nodes = {i: self._host(f"n{i}", node_address(i)) for i in range(1, nodes + 1)}
        self.clients = {i: self._host(f"c{i}", f"10.0.1.{i}") for i in range(1, client_hosts + 1)}
        self.congestion_control = congestion_control

    def _host(self, name, address):
        host = self.net.addHost(name, ip=f"{address}/16")
        self.net.addLink(host, self.switch)
        return host

    def start(self):
        """Brings the network up and checks that every host reaches every node."""
        self.net.start()
        # Filled in by hand: a cut would otherwise let addresses expire, and healing would be
        # measured together with the kernel's back-off in asking for them again.
        self.net.staticArp()
        for host in self.hosts():
            # Kernels differ in their default, and experiments should not.
            output = host.cmd(
                f"sysctl -qw net.ipv4.tcp_congestion_control={self.congestion_control}"
            )
            if output.strip():
                raise RuntimeError(f"{host}: {output.strip()}")
        self._wait_forwarding()

    def _wait_forwarding(self):
        """Waits until the bridge forwards, which it does a moment after it is up."""
        first, last = self.hosts()[0], self.hosts()[-1]
        deadline = time.monotonic() + FORWARDING_S
        while time.monotonic() < deadline:
            done = first.popen(["ping", "-q", "-c", "1", "-W", "0.2", last.IP()])
            done.communicate()
            if done.returncode == 0:
                return
        raise RuntimeError(f"{first} does not reach {last} within {FORWARDING_S} s")

    def hosts(self):
        """All hosts."""
        return [*self.nodes.values(), *self.clients.values()]

    def places(self):
        """Where each host is, by its name."""
        return {
            host.name: Place(host.IP(), host.pid, str(host.defaultIntf())) for host in self.hosts()
        }

    def ping(self):
        """The output of ping between each pair of nodes, by `nX-nY`; raises if one fails."""
        outputs = {}
        for i, host in self.nodes.items():
            for j in self.nodes:
                if i < j:
                    command = [
                        "ping",
                        "-U",
                        "-q",
                        "-c",
                        "3",
                        "-i",
                        "0.05",
                        "-W",
                        "1",
                        node_address(j),
                    ]
                    done = host.popen(command, stdin=subprocess.DEVNULL)
                    out, _ = done.communicate(timeout=20)
                    outputs[f"n{i}-n{j}"] = out.decode()
                    if done.returncode != 0:
                        raise RuntimeError(f"n{i} does not reach n{j}: {out.decode()}")
        return outputs

    def port(self, host):
        """The name of the switch's interface to a host."""
        (link,) = host.connectionsTo(self.switch)
        return link[1].name

    def stop(self):
        """Takes everything down again."""
        self.net.stop()
