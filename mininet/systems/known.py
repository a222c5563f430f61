"""The systems under test, by name, in the order in which they are listed and drawn."""

from systems.etcd import Etcd
from systems.libpaxos import Libpaxos, LibpaxosLmdb
from systems.loggos import Loggos
from systems.loggos_split import LoggosSplit
from systems.omnipaxos import OmniPaxos, OmniPaxosDurable
from systems.redis import Redis

SYSTEMS = {
    adapter.name: adapter
    for adapter in (
        Loggos,
        LoggosSplit,
        Etcd,
        OmniPaxos,
        OmniPaxosDurable,
        Libpaxos,
        LibpaxosLmdb,
        Redis,
    )
}
