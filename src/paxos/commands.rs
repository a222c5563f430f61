//! The commands that wait at a replica, found by their id.
//!
//! A hash table with linear probing, because a tree sets memory aside as commands come and go. What it holds is told
//! in the order of ids only, so that nothing depends on where it lies; where that is, clients cannot know.

use std::hash::{Hash, Hasher};

use super::batch::{Command, CommandId};
use super::ids::Ballot;

#[derive(Clone, Debug)]
pub struct Commands {
    /// A power of two of places, of which a quarter is free. A command stands at the first place from its own on
    /// (`place_of`) that was free when it came; there is none free between.
    places: Vec<Option<Waiting>>,
    len: usize,
    seed: u64,
}

#[derive(Clone, Debug, Hash)]
pub struct Waiting {
    pub command: Command,
    pub client: u64,
    pub arrived_us: u64,
    pub sent_us: u64,
    /// Whether its id is listed to be sent.
    pub unsent: bool,
    /// The leader that it was handed to last; none yet: it certainly has not happened.
    pub sent_to: Ballot,
}

const PLACES_MIN: usize = 16;

impl Commands {
    pub fn new(seed: u64) -> Commands {
        Commands { places: vec![None; PLACES_MIN], len: 0, seed }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get_mut(&mut self, id: CommandId) -> Option<&mut Waiting> {
        let at = self.find(id)?;
        self.places[at].as_mut()
    }

    /// Adds one that is not there.
    pub fn insert(&mut self, waiting: Waiting) {
        if self.places.len() / 4 * 3 <= self.len {
            self.resize(2 * self.places.len());
        }
        self.put(waiting);
        self.len += 1;
    }

    /// Removes one that is there.
    pub fn remove(&mut self, id: CommandId) {
        let mut free = self.find(id).expect("it is there");
        self.places[free] = None;
        self.len -= 1;
        // Those behind move up, as far as that brings them no further than to their own place.
        let mut at = free;
        loop {
            at = self.next(at);
            let Some(waiting) = &self.places[at] else { return };
            let own = self.place_of(waiting.command.id);
            let distance = |from: usize| at.wrapping_sub(from) & (self.places.len() - 1);
            if distance(free) <= distance(own) {
                self.places[free] = self.places[at].take();
                free = at;
            }
        }
    }

    /// The ids of those that `is` says yes to, ascending.
    pub fn ids(&self, mut is: impl FnMut(&Waiting) -> bool) -> Vec<CommandId> {
        let found = self.places.iter().flatten().filter(|waiting| is(waiting));
        let mut ids: Vec<CommandId> = found.map(|waiting| waiting.command.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Gives back memory that a crowd has left behind. Now and then.
    pub fn shrink(&mut self) {
        if PLACES_MIN < self.places.len() && self.len < self.places.len() / 8 {
            self.resize(self.places.len() / 2);
        }
    }

    fn resize(&mut self, places: usize) {
        let before = std::mem::replace(&mut self.places, vec![None; places]);
        before.into_iter().flatten().for_each(|waiting| self.put(waiting));
    }

    fn put(&mut self, waiting: Waiting) {
        let mut at = self.place_of(waiting.command.id);
        while self.places[at].is_some() {
            at = self.next(at);
        }
        self.places[at] = Some(waiting);
    }

    fn find(&self, id: CommandId) -> Option<usize> {
        let mut at = self.place_of(id);
        loop {
            if self.places[at].as_ref()?.command.id == id {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// Both halves of a product of 128 bits, as in wyhash.
    fn place_of(&self, id: CommandId) -> usize {
        let a = id.session.0 ^ self.seed ^ 0x9e37_79b9_7f4a_7c15;
        let b = id.seq ^ self.seed.rotate_left(32) ^ 0xd6e8_feb8_6659_fd93;
        let product = u128::from(a) * u128::from(b);
        ((product >> 64) as u64 ^ product as u64) as usize & (self.places.len() - 1)
    }
}

impl Hash for Commands {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut all: Vec<&Waiting> = self.places.iter().flatten().collect();
        all.sort_unstable_by_key(|waiting| waiting.command.id);
        all.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::batch::SessionId;
    use super::super::bytes::Bytes;
    use super::*;

    /// Against a tree, with so few ids that they often stand in each other's way.
    #[test]
    fn it_is_a_map() {
        let mut dice = 7u64;
        let mut draw = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % below
        };
        for seed in 0..50 {
            let (mut commands, mut tree) = (Commands::new(seed), BTreeMap::new());
            for client in 0..400 {
                let id = CommandId { session: SessionId(draw(3)), seq: draw(40) };
                let command = Command { id, acknowledged: 0, payload: Bytes::NONE };
                match draw(5) {
                    0..=1 if !tree.contains_key(&id) => {
                        let sent_to = Ballot::NONE;
                        let (arrived_us, sent_us, unsent) = (0, 0, true);
                        commands.insert(Waiting {
                            command,
                            client,
                            arrived_us,
                            sent_us,
                            unsent,
                            sent_to,
                        });
                        tree.insert(id, client);
                    }
                    2 => commands.shrink(),
                    _ => {
                        if tree.remove(&id).is_some() {
                            commands.remove(id);
                        }
                    }
                }
                assert_eq!((commands.len(), commands.is_empty()), (tree.len(), tree.is_empty()));
                assert_eq!(commands.ids(|_| true), tree.keys().copied().collect::<Vec<_>>());
                for session in (0..3).map(SessionId) {
                    for id in (0..40).map(|seq| CommandId { session, seq }) {
                        let client = commands.get_mut(id).map(|waiting| waiting.client);
                        assert_eq!(client, tree.get(&id).copied());
                    }
                }
            }
        }
    }

    /// What a crowd needed is given back.
    #[test]
    fn it_shrinks() {
        let mut commands = Commands::new(1);
        let id = |seq| CommandId { session: SessionId(1), seq };
        for seq in 0..1000 {
            let command = Command { id: id(seq), acknowledged: 0, payload: Bytes::NONE };
            let (arrived_us, sent_us, unsent) = (0, 0, true);
            let sent_to = Ballot::NONE;
            commands.insert(Waiting { command, client: 0, arrived_us, sent_us, unsent, sent_to });
        }
        assert_eq!(commands.places.len(), 2048);
        for seq in 0..1000 {
            commands.remove(id(seq));
            commands.shrink();
        }
        assert_eq!(commands.places.len(), PLACES_MIN);
    }
}
