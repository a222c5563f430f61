//! The clients' commands on images: some keys live there instead of the map, each as a hash with its value as what is
//! kept of it, translated both ways as by `sql`. So the same judges see that images are linearizable, applied once, and
//! the same everywhere, and snapshots carry them.

use crate::store::{Command, Query, Reply, Step, StepReply, Store, Transaction};
use crate::wire::kv;

/// All these keys are hashes near each other.
fn is_image(key: &[u8]) -> bool {
    key.starts_with(b"k") && key.last().is_some_and(|last| last % 5 == 4)
}

/// A command that there is for its key: images have no conditions and no sums, and are set instead.
pub fn drawn<'a>(command: Command<'a>) -> Command<'a> {
    match command {
        Command::Create { key, value }
        | Command::Update { key, value }
        | Command::Cas { key, value, .. }
            if is_image(key) =>
        {
            Command::Put { key, value }
        }
        Command::Incr { key, .. } if is_image(key) => Command::Put { key, value: b"1" },
        command => command,
    }
}

/// The command on an image, if its key is one; now and then as a step of a transaction.
pub fn of_command(encoded: Vec<u8>) -> Vec<u8> {
    let command = kv::decode_command(&encoded).expect("just encoded");
    let command = match command {
        Command::Put { key, value } if is_image(key) => {
            Command::SetImage { hash: key, meta: value }
        }
        Command::Delete { key } if is_image(key) => Command::DeleteImage { hash: key },
        _ => return encoded,
    };
    let is_even = |meta: &[u8]| meta.last().is_some_and(|last| last % 2 == 0);
    if !matches!(command, Command::SetImage { meta, .. } if is_even(meta)) {
        return kv::encode_command(&command);
    }
    let then = vec![Step::Key(command)];
    let bytes = kv::encode_transaction(&Transaction { then, ..Transaction::default() });
    kv::encode_command(&Command::Transaction(&bytes))
}

/// The command on a key that this command, or this step, stands for.
pub fn command_of(command: &Command<'_>) -> Vec<u8> {
    kv::encode_command(&match *command {
        Command::SetImage { hash, meta } => Command::Put { key: hash, value: meta },
        Command::DeleteImage { hash } => Command::Delete { key: hash },
        command => command,
    })
}

/// What the reply to a transaction means for the command on a key; none if there was no image in it.
pub fn of_steps(steps: &[StepReply]) -> Option<Reply> {
    (steps == [StepReply::Done]).then_some(Reply::Done)
}

/// What a replica says that a key holds: by the image itself, and among all that are near.
pub fn get(store: &Store, key: &[u8]) -> Reply {
    if !is_image(key) {
        return store.query(&Query::Get { key });
    }
    let [exact, near] = [(0, 1), (8 * key.len() as u32, 100)].map(|(within, limit)| {
        match store.query(&Query::Nearest { hash: key, within, limit }) {
            Reply::Images { images, more: false } => {
                images.into_iter().find(|image| image.hash == key)
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(exact, near);
    Reply::Value(exact.map(|image| image.meta))
}
