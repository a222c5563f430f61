//! What the two shells share: a line editor that keeps its history, and the outcome of a script.

use std::path::PathBuf;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Editor, Helper};

use super::Failure;

const HISTORY_LINES_MAX: usize = 1000;

/// What came from the keyboard.
pub enum Typed {
    Line(String),
    /// Ctrl-C: what was begun is given up.
    Interrupted,
    /// Ctrl-D.
    End,
}

pub struct Terminal<H: Helper> {
    editor: Editor<H, DefaultHistory>,
    history: Option<PathBuf>,
}

impl<H: Helper> Terminal<H> {
    /// `history`: the name of its file.
    pub fn new(helper: Option<H>, history: &str) -> Result<Terminal<H>, Failure> {
        let mut editor = Editor::new().map_err(|error| failed(&error))?;
        editor.set_helper(helper);
        editor.set_max_history_size(HISTORY_LINES_MAX).map_err(|error| failed(&error))?;
        let history = history_path(history);
        if let Some(path) = &history {
            // None yet, or not readable: a shell without its past is still a shell.
            let _ = editor.load_history(path);
        }
        Ok(Terminal { editor, history })
    }

    pub fn read(&mut self, prompt: &str) -> Result<Typed, Failure> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Typed::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(failed(&error)),
        }
    }

    pub fn remember(&mut self, entry: &str) -> Result<(), Failure> {
        self.editor.add_history_entry(entry).map(|_| ()).map_err(|error| failed(&error))
    }

    /// Writes the history for the next time.
    pub fn close(mut self) {
        let Some(path) = self.history else { return };
        let kept = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if kept.is_err() || self.editor.save_history(&path).is_err() {
            eprintln!("loggos: the history could not be kept in {}", path.display());
        }
    }
}

fn failed(error: &ReadlineError) -> Failure {
    Failure::usage(format!("the terminal: {error}"))
}

/// `$XDG_STATE_HOME/loggos/NAME`, by default below `~/.local/state`.
fn history_path(name: &str) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let state =
        state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("loggos").join(name))
}

/// Of a script, which goes on behind a failure. Each failure is told when it happens, but for the last one:
/// that is the outcome, and told by our caller.
#[derive(Default)]
pub struct Outcome(Option<Failure>);

impl Outcome {
    pub fn note(&mut self, failure: Failure) {
        if let Some(earlier) = self.0.replace(failure) {
            earlier.print();
        }
    }

    pub fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
