//! `loggos watch`: changes of keys as they happen, a line each.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::args::WatchArgs;
use super::output::{self, field, json_bytes};
use super::{Failure, kv};
use crate::client::{Client, Event};
use crate::paxos::Slot;

pub fn run(args: &WatchArgs, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let prefix = kv::bound(args.prefix.as_deref())?;
    let mut watcher = client.watch(prefix, args.from.map(Slot))?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while 0 < left {
        let event = watcher.wait().map_err(|error| {
            let why = error.to_string();
            let why = why.split(';').next().unwrap_or_default();
            Failure::refused(format!("{why}; read the keys anew (scan), and watch from there"))
        })?;
        let line = if args.json { in_json(&event) } else { in_words(&event) };
        output::print(out, &line)?;
        left -= 1;
    }
    Ok(())
}

fn in_words(Event { slot, key, value }: &Event) -> String {
    match value {
        Some(value) => format!("{slot}\tput\t{}\t{}\n", field(key), field(value)),
        None => format!("{slot}\tdelete\t{}\n", field(key)),
    }
}

fn in_json(Event { slot, key, value }: &Event) -> String {
    let mut object = Map::new();
    object.insert("slot".to_owned(), json!(slot.0));
    json_bytes(&mut object, "key", key);
    match value {
        Some(value) => json_bytes(&mut object, "value", value),
        None => _ = object.insert("deleted".to_owned(), json!(true)),
    }
    format!("{}\n", Value::Object(object))
}
