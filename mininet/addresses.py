"""Where the emulated hosts are; apart from `topology.py`, which needs Mininet."""


def node_address(node):
    """The address of a node's host."""
    return f"10.0.0.{node}"
