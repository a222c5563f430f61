"""What a node tells of itself: `src/wire/status.rs`, field by field."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from loggos.client.errors import Nonsense
from loggos.client.wire import Reader

ENDS = ("silent", "closed")


@dataclass(frozen=True)
class Roles:
    """What a node is."""

    acceptor: bool
    leader: bool
    replica: bool


@dataclass(frozen=True)
class Health:
    """What keeps a node from leading well, the network aside. All false in one that is well."""

    disk_stalled: bool
    disk_full: bool
    quarantined: bool


@dataclass(frozen=True)
class Peer:
    """What a node knows of another. `hears` and `health` are what that one said last; `ended` is
    how the last connection to it ended, if none stands and one did."""

    node: int
    connected: bool
    heard: bool
    first_unchosen: int
    hears: list[int]
    health: Health
    ended: str | None


@dataclass(frozen=True)
class Member:
    """A node of the newest configuration, and where it is reached."""

    node: int
    roles: Roles
    peer_address: tuple[str, int]
    client_address: tuple[str, int]


@dataclass(frozen=True)
class Configuration:
    """What a node knows of who is in the cluster. `left`: ids that are never used again."""

    cluster: int
    epoch: int
    epoch_in_force: int
    settled: bool
    removed: bool
    phase1: int
    phase2: int
    members: list[Member]
    left: list[int]


@dataclass(frozen=True)
class Status:
    """What a node tells of itself. Slots are numbers, a ballot is `round.node`."""

    node: int
    version: str
    pid: int
    uptime_ms: int
    roles: Roles
    # The members by the configuration in force, and how many acceptors a leader must reach.
    members: dict[int, Roles]
    quorum: int
    # The leader that this node follows, its ballot, and over whom commands reach it.
    leader: int | None
    ballot: str
    route: list[int]
    # Whether it is the leader itself.
    leading: bool
    quorum_connected: bool
    health: Health
    first_unchosen: int
    # The last slot applied, and the digest of the store's content after it.
    applied: int
    digest: str
    keys: int
    sessions: int
    clients: int
    syncs: int
    lost_records: int
    unsure_slots: int
    peers: list[Peer]
    configuration: Configuration


def ballot(reader: Reader) -> str:
    """As it is shown everywhere: `round.node`."""
    return f"{reader.u64()}.{reader.u16()}"


def address(reader: Reader) -> tuple[str, int]:
    """Host and port."""
    match reader.variant():
        case 0:
            host = str(IPv4Address(reader.fixed(4)))
        case 1:
            host = str(IPv6Address(reader.fixed(16)))
        case _:
            raise Nonsense("the message does not decode")
    return host, reader.u16()


def _roles(reader: Reader) -> Roles:
    return Roles(reader.flag(), reader.flag(), reader.flag())


def _health(reader: Reader) -> Health:
    return Health(reader.flag(), reader.flag(), reader.flag())


def _ended(reader: Reader) -> str:
    variant = reader.variant()
    if len(ENDS) <= variant:
        raise Nonsense("the message does not decode")
    return ENDS[variant]


def _peer(reader: Reader) -> Peer:
    return Peer(
        node=reader.u16(),
        connected=reader.flag(),
        heard=reader.flag(),
        first_unchosen=reader.u64(),
        hears=reader.sequence(reader.u16),
        health=_health(reader),
        ended=reader.option(lambda: _ended(reader)),
    )


def _member(reader: Reader) -> Member:
    return Member(reader.u16(), _roles(reader), address(reader), address(reader))


def _configuration(reader: Reader) -> Configuration:
    return Configuration(
        cluster=reader.u64(),
        epoch=reader.u64(),
        epoch_in_force=reader.u64(),
        settled=reader.flag(),
        removed=reader.flag(),
        phase1=reader.u64(),
        phase2=reader.u64(),
        members=reader.sequence(lambda: _member(reader)),
        left=reader.sequence(reader.u16),
    )


def status(reader: Reader) -> Status:
    """Takes it all; arguments are read in the order in which they stand here."""
    return Status(
        node=reader.u16(),
        version=reader.text(),
        pid=reader.u32(),
        uptime_ms=reader.u64(),
        roles=_roles(reader),
        members=dict(reader.sequence(lambda: (reader.u16(), _roles(reader)))),
        quorum=reader.u16(),
        leader=reader.option(reader.u16),
        ballot=ballot(reader),
        route=reader.sequence(reader.u16),
        leading=reader.flag(),
        quorum_connected=reader.flag(),
        health=_health(reader),
        first_unchosen=reader.u64(),
        applied=reader.u64(),
        digest=reader.text(),
        keys=reader.u64(),
        sessions=reader.u64(),
        clients=reader.u64(),
        syncs=reader.u64(),
        lost_records=reader.u64(),
        unsure_slots=reader.u64(),
        peers=reader.sequence(lambda: _peer(reader)),
        configuration=_configuration(reader),
    )
