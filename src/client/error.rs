//! Why a request brought no reply, told apart by the one thing that a caller must know.

use std::fmt;

/// Whether the operation can have happened. The text is one line for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It certainly did not happen and never will: it may be tried again.
    Definite(String),
    /// It may have happened, or may yet happen: only a read can tell.
    Indefinite(String),
}

impl Error {
    pub fn is_definite(&self) -> bool {
        matches!(self, Error::Definite(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Definite(why) => write!(f, "{why}; it certainly did not happen"),
            Error::Indefinite(why) => {
                write!(f, "{why}; it may or may not have happened, or may happen yet: read to know")
            }
        }
    }
}

impl std::error::Error for Error {}
