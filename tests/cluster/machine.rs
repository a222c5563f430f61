//! A state machine of the least kind: it remembers which commands it executed and where, so that a
//! command decided twice is executed once.

use std::collections::BTreeMap;

use loggos::paxos::{Batch, CommandId, Slot, Value};

pub struct Machine {
    /// The first slot that is not applied.
    pub applied_end: Slot,
    /// In which slot each command was executed.
    pub executed: BTreeMap<CommandId, Slot>,
    /// The payloads of the executed commands, in order, as far as they are short text.
    pub words: Vec<String>,
}

/// A command met in a batch.
pub struct Applied {
    pub id: CommandId,
    /// Where it was executed: this slot, or an earlier one.
    pub executed: Slot,
}

impl Machine {
    pub fn new() -> Machine {
        Machine { applied_end: Slot::FIRST, executed: BTreeMap::new(), words: Vec::new() }
    }

    pub fn apply(&mut self, slot: Slot, value: &Value) -> Vec<Applied> {
        assert_eq!(slot, self.applied_end, "slots are applied in order, each once");
        self.applied_end = slot.next();
        let batch = Batch::decode(&value.0).expect("a chosen value is a batch");
        let mut applied = Vec::with_capacity(batch.len());
        for command in batch.commands() {
            let first = !self.executed.contains_key(&command.id);
            let executed = *self.executed.entry(command.id).or_insert(slot);
            if first && command.payload.len() <= 16 {
                self.words.push(String::from_utf8_lossy(command.payload).into_owned());
            }
            applied.push(Applied { id: command.id, executed });
        }
        applied
    }
}
