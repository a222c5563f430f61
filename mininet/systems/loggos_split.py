"""Loggos with each role in a process of its own, as in Paxos Made Moderately Complex."""

from systems.loggos import Loggos, Setup

# To outlive one crash of either.
LEADERS, REPLICAS = 2, 2


class LoggosSplit(Loggos):
    """Two leaders, as many acceptors as the others have nodes, two replicas."""

    name = "loggos-split"
    split = True
    about = (
        "as loggos, with two leaders, the acceptors and two replicas on hosts of their own; the "
        "follower that crashes is an acceptor"
    )

    def __init__(self, experiment, star, binary, run_dir, setup=None):
        acceptors = len(star.nodes) - LEADERS - REPLICAS
        roles = ["leader"] * LEADERS + ["acceptor"] * acceptors + ["replica"] * REPLICAS
        split = Setup(roles={node: (role,) for node, role in enumerate(roles, 1)})
        super().__init__(experiment, star, binary, run_dir, setup or split)

    @classmethod
    def hosts(cls, nodes):
        """One for each role."""
        return LEADERS + nodes + REPLICAS

    def followers(self):
        """The acceptors first."""
        leader = self.leader()
        others = [node for node in self.running() if node != leader]
        return sorted(others, key=lambda node: self.setup.roles_of(node) != ("acceptor",))
