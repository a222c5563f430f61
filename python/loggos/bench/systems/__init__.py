"""The systems that are compared, by the name that they have in `PEERS`."""

from loggos.bench.systems.base import Load, Place, System
from loggos.bench.systems.etcd import Etcd
from loggos.bench.systems.loggos import Loggos
from loggos.bench.systems.redis import Redis
from loggos.bench.systems.zookeeper import ZooKeeper

PEERS = {peer.name: peer for peer in (Etcd, Redis, ZooKeeper)}
SYSTEMS = {Loggos.name: Loggos, **PEERS}

__all__ = ["PEERS", "SYSTEMS", "Etcd", "Load", "Loggos", "Place", "Redis", "System", "ZooKeeper"]
