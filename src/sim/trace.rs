//! The last lines of what happened.

use std::collections::VecDeque;

#[derive(Default)]
pub struct Trace {
    /// How many lines to keep; none are made if 0.
    pub len_max: usize,
    /// Whether messages and inputs are told too.
    pub messages: bool,
    pub lines: VecDeque<String>,
}

impl Trace {
    pub fn note(&mut self, now_us: u64, line: impl FnOnce() -> String) {
        if self.len_max == 0 {
            return;
        }
        if self.lines.len() == self.len_max {
            self.lines.pop_front();
        }
        let ms = now_us as f64 / 1000.0;
        self.lines.push_back(format!("{ms:9.3} {}", line()));
    }
}
