//! The connections of a node, each at a place that is its mio token.

use mio::Token;

use super::connection::Connection;

/// Tokens below are the driver's own: waker, signals, listeners.
const FIRST_TOKEN: usize = 8;

#[derive(Default)]
pub struct Table {
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    generation: u32,
    clients: usize,
}

/// Names a connection beyond its end: a place and the generation of who had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    place: u32,
    generation: u32,
}

impl ConnectionId {
    /// As the token that the core hands back with an answer.
    pub fn to_token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub fn from_token(token: u64) -> ConnectionId {
        ConnectionId { place: token as u32, generation: (token >> 32) as u32 }
    }

    pub fn mio_token(self) -> Token {
        Token(self.place as usize + FIRST_TOKEN)
    }
}

impl Table {
    /// Makes a place for the connection that `make` returns, given its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Connection) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1);
        let connection = make(self.generation);
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                self.places.len() - 1
            }
        };
        self.places[place] = Some(connection);
        ConnectionId { place: place as u32, generation: self.generation }
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let place = self.places.get_mut(id.place as usize)?;
        let connection = place.take_if(|connection| connection.generation == id.generation)?;
        self.free.push(id.place as usize);
        Some(connection)
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.places.get(id.place as usize)?.as_ref()?;
        (connection.generation == id.generation).then_some(connection)
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.places.get_mut(id.place as usize)?.as_mut()?;
        (connection.generation == id.generation).then_some(connection)
    }

    /// The connection that has this token now. An event may be for one that is gone; its successor
    /// then finds that there is nothing to read, which does no harm.
    pub fn by_mio_token(&self, token: Token) -> Option<ConnectionId> {
        let place = token.0.checked_sub(FIRST_TOKEN)?;
        let connection = self.places.get(place)?.as_ref()?;
        Some(ConnectionId { place: place as u32, generation: connection.generation })
    }

    pub fn ids(&self) -> Vec<ConnectionId> {
        let of = |(place, connection): (usize, &Option<Connection>)| {
            let generation = connection.as_ref()?.generation;
            Some(ConnectionId { place: place as u32, generation })
        };
        self.places.iter().enumerate().filter_map(of).collect()
    }

    /// Connections accepted on the clients' address.
    pub fn clients(&self) -> usize {
        self.clients
    }

    pub fn client_came(&mut self) {
        self.clients += 1;
    }

    pub fn client_went(&mut self) {
        self.clients -= 1;
    }
}
