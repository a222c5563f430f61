//! The simulator: a whole cluster in one thread, from one seed, with the real core, store and log.

pub mod disk;
