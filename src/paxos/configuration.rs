//! A configuration: who is in the cluster, where they are reached, and what a quorum is, as the value
//! of one slot of the log.
//!
//! It is a batch without commands (`batch`) whose kind is 1; behind the header lies, little-endian:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | epoch: 1 for the configuration that the cluster began with, and one more each change |
//! | 8 | 2 | size of phase-1 quorums as configured; 0: a majority, or what phase 2 leaves over |
//! | 10 | 2 | size of phase-2 quorums, likewise |
//! | 12 | 2 | number of members |
//! | 14 | 2 | number of removed ids |
//! | 16 | | the members, by id, 42 bytes each |
//! | | | the removed ids, ascending, 2 bytes each |
//!
//! A member: id (2), roles (1: acceptor 1, leader 2, replica 4), zero (1), then the address for peers and
//! the one for clients. An address: port (2), 4 or 6 (1), and 16 bytes, of which IPv4 uses the first four
//! and leaves the rest zero.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::limits;

use super::batch::{self, Kind};
use super::ids::{NodeId, Value};
use super::quorum::{Member, Membership, Roles};

const HEADER_SIZE: usize = 16;
const ADDRESS_SIZE: usize = 19;
const MEMBER_SIZE: usize = 4 + 2 * ADDRESS_SIZE;

/// Where a node is reached. Data to the core, which opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Addresses {
    pub peer: SocketAddr,
    pub client: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    epoch: u64,
    membership: Membership,
    /// Of the members, in their order.
    addresses: Vec<Addresses>,
    /// Sizes of quorums as configured; what they come to is in `membership`.
    phase1: Option<usize>,
    phase2: Option<usize>,
    /// Ids of nodes that were members once, ascending. They never come back: whoever had the id may have
    /// promised and voted, and the next one would not know.
    removed: Vec<NodeId>,
}

/// One step from a configuration to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new node, which only learns: a replica.
    Add { node: NodeId, addresses: Addresses },
    /// A learner gets all roles.
    Promote { node: NodeId },
    /// A node leaves; its id is never used again.
    Remove { node: NodeId },
    /// A learner gets all roles and another node leaves, in one step: the number of acceptors stays, so
    /// that a cluster with a dead node need not have a larger quorum in between.
    Replace { old: NodeId, new: NodeId },
}

impl Configuration {
    /// The configuration that a cluster begins with. Errors as `Membership::new`.
    pub fn initial(
        members: Vec<(Member, Addresses)>,
        phase1: Option<usize>,
        phase2: Option<usize>,
    ) -> Result<Configuration, String> {
        Configuration::new(1, members, phase1, phase2, Vec::new())
    }

    fn new(
        epoch: u64,
        mut members: Vec<(Member, Addresses)>,
        phase1: Option<usize>,
        phase2: Option<usize>,
        removed: Vec<NodeId>,
    ) -> Result<Configuration, String> {
        if limits::NODES_MAX < members.len() {
            return Err(format!("a cluster has at most {} nodes", limits::NODES_MAX));
        }
        members.sort_by_key(|(member, _)| member.node);
        let (members, addresses): (Vec<Member>, Vec<Addresses>) = members.into_iter().unzip();
        let membership = Membership::new(members, phase1, phase2)?;
        Ok(Configuration { epoch, membership, addresses, phase1, phase2, removed })
    }

    /// What a node that joins takes for the cluster until it learns better: itself, which only learns, and
    /// some nodes to ask. Epoch 0, which governs nothing.
    pub fn provisional(
        me: (NodeId, Addresses),
        seeds: Vec<(NodeId, Addresses)>,
    ) -> Result<Configuration, String> {
        const LEARNER: Roles = Roles { acceptor: false, leader: false, replica: true };
        let seed = |(node, addresses)| (Member { node, roles: Roles::ALL }, addresses);
        let mut members: Vec<(Member, Addresses)> = seeds.into_iter().map(seed).collect();
        members.push((Member { node: me.0, roles: LEARNER }, me.1));
        Configuration::new(0, members, None, None, Vec::new())
    }

    /// The same, as if it had come about later.
    #[cfg(test)]
    pub fn at_epoch(self, epoch: u64) -> Configuration {
        Configuration { epoch, ..self }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn roles(&self, node: NodeId) -> Option<Roles> {
        self.membership.roles(node)
    }

    pub fn members(&self) -> impl Iterator<Item = (Member, Addresses)> + '_ {
        self.membership.members().iter().copied().zip(self.addresses.iter().copied())
    }

    pub fn addresses(&self, node: NodeId) -> Option<Addresses> {
        self.members().find(|(member, _)| member.node == node).map(|(_, addresses)| addresses)
    }

    /// Whether the node was a member once and is none any more.
    pub fn has_removed(&self, node: NodeId) -> bool {
        self.removed.binary_search(&node).is_ok()
    }

    /// The next configuration. An error is what is wrong with the change, for the operator; whether it
    /// is wise at this moment (who is alive, who is up to date) is for the leader to say.
    pub fn changed(&self, change: &Change) -> Result<Configuration, String> {
        let mut members: Vec<(Member, Addresses)> = self.members().collect();
        let mut removed = self.removed.clone();
        let known = |node: NodeId| match self.roles(node) {
            Some(roles) => Ok(roles),
            None if self.has_removed(node) => Err(format!("{node} has left the cluster for good")),
            None => Err(format!("{node} is no member of the cluster")),
        };
        let promote = |members: &mut Vec<(Member, Addresses)>, node: NodeId| {
            let roles = known(node)?;
            if roles == Roles::ALL {
                return Err(format!("{node} has all roles already"));
            }
            if !roles.replica {
                return Err(format!("{node} is no replica: only those who learn are promoted"));
            }
            let member = members.iter_mut().find(|(member, _)| member.node == node);
            member.expect("it is known").0.roles = Roles::ALL;
            Ok(())
        };
        let mut remove = |members: &mut Vec<(Member, Addresses)>, node: NodeId| {
            known(node)?;
            members.retain(|(member, _)| member.node != node);
            let at = removed.partition_point(|it| *it < node);
            removed.insert(at, node);
            Ok::<(), String>(())
        };
        match *change {
            Change::Add { node, addresses } => {
                if self.has_removed(node) {
                    return Err(format!(
                        "{node} was a member before; ids are never used again, take a new one"
                    ));
                }
                if self.roles(node).is_some() {
                    return Err(format!("{node} is a member already"));
                }
                for (member, other) in &members {
                    let theirs = [other.peer, other.client];
                    if let Some(taken) =
                        [addresses.peer, addresses.client].iter().find(|it| theirs.contains(it))
                    {
                        return Err(format!("{taken} is an address of {}", member.node));
                    }
                }
                let roles = Roles { acceptor: false, leader: false, replica: true };
                members.push((Member { node, roles }, addresses));
            }
            Change::Promote { node } => promote(&mut members, node)?,
            Change::Remove { node } => remove(&mut members, node)?,
            Change::Replace { old, new } => {
                if old == new {
                    return Err(format!("{old} cannot replace itself: take a new id"));
                }
                promote(&mut members, new)?;
                remove(&mut members, old)?;
            }
        }
        Configuration::new(self.epoch + 1, members, self.phase1, self.phase2, removed)
    }

    /// Whether the same nodes are in it, in the same roles and at the same addresses.
    pub fn has_same_members(&self, other: &Configuration) -> bool {
        self.members().eq(other.members())
    }

    /// Ids that were members and never are again, ascending.
    pub fn left(&self) -> &[NodeId] {
        &self.removed
    }

    /// The value of a slot that holds this configuration.
    pub fn to_value(&self, time_us: u64) -> Value {
        let mut bytes = batch::header(time_us, 0, Kind::Configuration).to_vec();
        self.encode(&mut bytes);
        Value(bytes.into())
    }

    /// The configuration in a slot's value, if it holds one.
    pub fn of_value(value: &Value) -> Option<Configuration> {
        Configuration::of_bytes(&value.0)
    }

    /// The same, of a value's bytes.
    pub fn of_bytes(value: &[u8]) -> Option<Configuration> {
        let bytes = batch::configuration_bytes(value)?;
        let (configuration, rest) = Configuration::decode(bytes)?;
        rest.is_empty().then_some(configuration)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let size = |size: Option<usize>| (size.unwrap_or(0) as u16).to_le_bytes();
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&size(self.phase1));
        out.extend_from_slice(&size(self.phase2));
        out.extend_from_slice(&(self.addresses.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.removed.len() as u16).to_le_bytes());
        for (Member { node, roles }, addresses) in self.members() {
            let Roles { acceptor, leader, replica } = roles;
            let roles = u8::from(acceptor) | u8::from(leader) << 1 | u8::from(replica) << 2;
            out.extend_from_slice(&node.0.to_le_bytes());
            out.extend_from_slice(&[roles, 0]);
            encode_address(addresses.peer, out);
            encode_address(addresses.client, out);
        }
        for node in &self.removed {
            out.extend_from_slice(&node.0.to_le_bytes());
        }
    }

    /// The configuration at the beginning of `bytes`, checked, and what lies behind it.
    pub fn decode(bytes: &[u8]) -> Option<(Configuration, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER_SIZE)?;
        let epoch = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"));
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let size = |size: usize| (0 < size).then_some(size);
        let (phase1, phase2) = (size(u16_at(8)), size(u16_at(10)));
        let (members_len, removed_len) = (u16_at(12), u16_at(14));
        let (members, rest) = rest.split_at_checked(members_len * MEMBER_SIZE)?;
        let (removed, rest) = rest.split_at_checked(removed_len * 2)?;
        let members: Vec<(Member, Addresses)> =
            members.chunks_exact(MEMBER_SIZE).map(decode_member).collect::<Option<_>>()?;
        let node = |id: &[u8]| NodeId(u16::from_le_bytes([id[0], id[1]]));
        let removed: Vec<NodeId> = removed.chunks_exact(2).map(node).collect();
        if removed.windows(2).any(|pair| pair[1] <= pair[0])
            || members.windows(2).any(|pair| pair[1].0.node <= pair[0].0.node)
            || members.iter().any(|(member, _)| removed.contains(&member.node))
        {
            return None;
        }
        let configuration = Configuration::new(epoch, members, phase1, phase2, removed).ok()?;
        // Epochs are counted on, and those of nobody's making must not overflow.
        (epoch < 1 << 62).then_some((configuration, rest))
    }
}

fn encode_address(address: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&address.port().to_le_bytes());
    let mut bytes = [0; 16];
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            bytes[..4].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            bytes = ip.octets();
        }
    }
    out.extend_from_slice(&bytes);
}

fn decode_member(bytes: &[u8]) -> Option<(Member, Addresses)> {
    let node = NodeId(u16::from_le_bytes([bytes[0], bytes[1]]));
    let bits = bytes[2];
    if 7 < bits || bytes[3] != 0 {
        return None;
    }
    let has = |bit: u8| bits & bit != 0;
    let roles = Roles { acceptor: has(1), leader: has(2), replica: has(4) };
    let peer = decode_address(&bytes[4..4 + ADDRESS_SIZE])?;
    let client = decode_address(&bytes[4 + ADDRESS_SIZE..])?;
    Some((Member { node, roles }, Addresses { peer, client }))
}

fn decode_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_le_bytes([bytes[0], bytes[1]]);
    let octets: [u8; 16] = bytes[3..].try_into().expect("sixteen bytes");
    let ip = match bytes[2] {
        4 if octets[4..] == [0; 12] => {
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        }
        6 => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::super::batch::Batch;
    use super::*;

    fn addresses(id: u16) -> Addresses {
        let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, id as u8)), port);
        Addresses { peer: at(7400), client: at(7401) }
    }

    fn three() -> Configuration {
        let member = |id| (Member { node: NodeId(id), roles: Roles::ALL }, addresses(id));
        Configuration::initial((1..=3).map(member).collect(), None, None).unwrap()
    }

    /// The format is in logs and snapshots: a changed byte must be noticed.
    #[test]
    fn golden_bytes() {
        let add = Change::Add { node: NodeId(5), addresses: addresses(5) };
        let member = |id| (Member { node: NodeId(id), roles: Roles::ALL }, addresses(id));
        let one = Configuration::initial(vec![member(2), member(3)], None, Some(2)).unwrap();
        let removed = one.changed(&add).unwrap().changed(&Change::Remove { node: NodeId(5) });
        let value = removed.unwrap().to_value(7);
        let hex: String = value.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let address = |id: u16, port: &str| format!("{port}040a0000{id:02x}{}", "00".repeat(12));
        let member =
            |id: u16| format!("{id:02x}000700{}{}", address(id, "e81c"), address(id, "e91c"));
        let header = "07000000000000000000000001000000";
        let expected = format!("{header}030000000000000000000200020001{}", "00");
        assert_eq!(hex, format!("{expected}{}{}0500", member(2), member(3)));
    }

    /// To the state machine it is a batch without commands; to the core it is what went in.
    #[test]
    fn what_goes_in_comes_out() {
        let configuration = three();
        let value = configuration.to_value(5);
        assert_eq!(Configuration::of_value(&value), Some(configuration));
        let batch = Batch::decode(&value.0).unwrap();
        assert_eq!((batch.time_us, batch.len()), (5, 0));
        assert_eq!(Configuration::of_value(&Value::noop()), None);
        assert_eq!(Configuration::of_value(&batch::encode(5, [].iter())), None);
    }

    /// Cut short, with bytes to spare, or with members twice: no value of a slot.
    #[test]
    fn nonsense_is_refused() {
        let value = three().to_value(5);
        for cut in 1..value.size() {
            assert!(Batch::decode(&value.0[..cut]).is_none(), "cut at {cut}");
        }
        let mut longer = value.0.to_vec();
        longer.push(0);
        assert!(Batch::decode(&longer).is_none());
        let mut twice = value.0.to_vec();
        twice[32 + MEMBER_SIZE] = 1;
        assert!(Batch::decode(&twice).is_none());
        let mut epoch = value.0.to_vec();
        epoch[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Batch::decode(&epoch).is_none());
    }

    #[test]
    fn changes_and_their_refusals() {
        let add = |id| Change::Add { node: NodeId(id), addresses: addresses(id) };
        let node = NodeId;
        let four = three().changed(&add(4)).unwrap();
        assert_eq!((four.epoch(), four.membership().phase2()), (2, 2), "a learner has no vote");
        let promoted = four.changed(&Change::Promote { node: node(4) }).unwrap();
        assert_eq!((promoted.epoch(), promoted.membership().phase2()), (3, 3));
        let swapped = four.changed(&Change::Replace { old: node(1), new: node(4) }).unwrap();
        assert_eq!(swapped.membership().acceptors().collect::<Vec<_>>(), [2, 3, 4].map(node));
        let refused = |of: &Configuration, change: Change, why: &str| {
            let error = of.changed(&change).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(&three(), add(3), "already");
        refused(&swapped, add(1), "never used again");
        refused(&swapped, Change::Remove { node: node(1) }, "for good");
        refused(&three(), Change::Promote { node: node(3) }, "all roles already");
        refused(&three(), Change::Promote { node: node(9) }, "no member");
        refused(&four, Change::Replace { old: node(4), new: node(4) }, "itself");
        let elsewhere = Change::Add { node: node(9), addresses: addresses(2) };
        refused(&three(), elsewhere, "10.0.0.2:7400 is an address of n2");
        let mut last = three();
        for id in 1..=2 {
            last = last.changed(&Change::Remove { node: node(id) }).unwrap();
        }
        refused(&last, Change::Remove { node: node(3) }, "no node has the role acceptor");
    }
}
