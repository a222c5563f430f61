//! What a node says on standard error: one line an event, with time and node.
//!
//! Under systemd the journal has the time, and wants the level as a prefix instead.

use std::io::Write;

use crate::paxos::NodeId;
use crate::trace;

/// Sets up logging for this process. Called once, by `serve`.
pub fn init(node: NodeId, level: log::LevelFilter) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    env_logger::Builder::new()
        .filter_level(level)
        .format(move |out, record| {
            if journal {
                // The levels of syslog, as sd-daemon(3) reads them.
                let priority = match record.level() {
                    log::Level::Error => 3,
                    log::Level::Warn => 4,
                    log::Level::Info => 6,
                    log::Level::Debug | log::Level::Trace => 7,
                };
                writeln!(out, "<{priority}>{node}: {}", record.args())
            } else {
                let time = time_of_day(trace::wall_ns());
                writeln!(out, "{time} {:5} {node}: {}", record.level(), record.args())
            }
        })
        .init();
}

/// `HH:MM:SS.mmm`, UTC.
fn time_of_day(wall_ns: u64) -> String {
    let ms = wall_ns / 1_000_000 % 86_400_000;
    let (s, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_of_day_is_utc() {
        assert_eq!(super::time_of_day(0), "00:00:00.000Z");
        let ns = (20_000 * 86_400 + 13 * 3600 + 7 * 60 + 9) * 1_000_000_000 + 45_000_000;
        assert_eq!(super::time_of_day(ns), "13:07:09.045Z");
    }
}
