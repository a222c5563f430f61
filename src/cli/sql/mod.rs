//! `loggos sql`: SQL on the replicated database, from a terminal, a script or the command line.
//!
//! A statement that only reads is a query; any other is a command, decided in the log. What stands between `BEGIN` and
//! `COMMIT` is one command: it is sent when it is complete, and happens as a whole or not at all.

mod dot;
mod dump;
mod import;
mod show;

use std::io::{BufRead, IsTerminal, Write};

use super::args::SqlArgs;
use super::terminal::{Outcome, Terminal, Typed};
use super::{Failure, output};
use crate::client::{Answer, Client};
use crate::sql::text::{first_statement, first_words, is_blank};
use crate::sql::{Rows, Statement};
use crate::store::{self, Command, Reply, Step, StepReply, Transaction};
use crate::trace::monotonic_ns;
use crate::wire::client::Consistency;
use crate::wire::kv::encode_transaction;
pub use show::Mode;
use show::Printer;

/// With these a statement may be one that only reads.
const READING: [&str; 5] = ["SELECT", "VALUES", "WITH", "EXPLAIN", "PRAGMA"];

pub struct SqlShell<'a> {
    client: &'a mut Client,
    out: &'a mut dyn Write,
    consistency: Consistency,
    mode: Mode,
    is_timed: bool,
    /// Between `BEGIN` and `COMMIT`.
    batch: Option<Vec<String>>,
}

enum Next {
    GoOn,
    Leave,
}

/// Runs what the arguments say: a command line's statements, a script, or a terminal.
pub fn run(args: &SqlArgs, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let is_terminal = args.command.is_none() && stdin.is_terminal();
    let default = if is_terminal { Mode::Table } else { Mode::List };
    let mut shell = SqlShell {
        client,
        out,
        consistency: args.consistency,
        mode: args.mode.unwrap_or(default),
        is_timed: false,
        batch: None,
    };
    match &args.command {
        Some(text) => shell.run_script(&mut text.as_bytes()),
        None if is_terminal => shell.run_terminal(),
        None => shell.run_script(&mut stdin.lock()),
    }
}

impl SqlShell<'_> {
    /// Goes on behind a failure, as `sqlite3` does; the last one is the outcome.
    fn run_script(&mut self, input: &mut dyn BufRead) -> Result<(), Failure> {
        let mut outcome = Outcome::default();
        // Whether to leave.
        let mut note = |result: Result<Next, Failure>| match result {
            Ok(next) => matches!(next, Next::Leave),
            Err(failure) => {
                outcome.note(failure);
                false
            }
        };
        let mut pending = String::new();
        for line in input.lines() {
            let line = line.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
            if is_blank(&pending) && line.starts_with('.') {
                pending.clear();
                if note(self.dot(&line)) {
                    return outcome.end();
                }
                continue;
            }
            pending.push_str(&line);
            pending.push('\n');
            while let Some(statement) = take_statement(&mut pending) {
                note(self.statement(&statement));
            }
        }
        if !is_blank(&pending) {
            // The last semicolon may be left out.
            pending.push(';');
            match take_statement(&mut pending) {
                Some(statement) => _ = note(self.statement(&statement)),
                None => {
                    let failure = Failure::usage("the last statement is not complete".to_owned());
                    _ = note(Err(failure));
                }
            }
        }
        if self.batch.take().is_some() {
            note(Err(Failure::usage("BEGIN without COMMIT: nothing of it was done".to_owned())));
        }
        outcome.end()
    }

    fn run_terminal(&mut self) -> Result<(), Failure> {
        let mut terminal: Terminal<()> = Terminal::new(None, "sql-history")?;
        println!("Statements end with a semicolon; `.help` lists what else there is.");
        let mut pending = String::new();
        loop {
            let prompt = match (pending.is_empty(), &self.batch) {
                (false, _) => "   ...> ",
                (true, Some(_)) => "batch> ",
                (true, None) => "sql> ",
            };
            match terminal.read(prompt)? {
                Typed::Line(line) if pending.is_empty() && line.starts_with('.') => {
                    terminal.remember(&line)?;
                    match self.dot(&line) {
                        Ok(Next::GoOn) => {}
                        Ok(Next::Leave) => break,
                        Err(failure) => failure.print(),
                    }
                }
                Typed::Line(line) => {
                    pending.push_str(&line);
                    pending.push('\n');
                    let whole = pending.trim().to_owned();
                    let mut is_done = false;
                    while let Some(statement) = take_statement(&mut pending) {
                        is_done = true;
                        if let Err(failure) = self.statement(&statement) {
                            failure.print();
                        }
                    }
                    if is_done {
                        terminal.remember(&whole)?;
                    }
                    if is_blank(&pending) {
                        pending.clear();
                    }
                }
                Typed::Interrupted => pending.clear(),
                Typed::End => break,
            }
        }
        terminal.close();
        Ok(())
    }

    /// Runs one statement, or puts it aside for the batch that has begun.
    fn statement(&mut self, text: &str) -> Result<Next, Failure> {
        let words = first_words(text, 1);
        let first = words.first().map_or("", String::as_str);
        match (first, self.batch.is_some()) {
            ("BEGIN", false) => {
                self.batch = Some(Vec::new());
                return Ok(Next::GoOn);
            }
            ("BEGIN", true) => {
                return Err(Failure::usage("BEGIN within a batch".to_owned()));
            }
            ("COMMIT" | "END", true) => {
                let batch = self.batch.take().unwrap_or_default();
                return self.timed(|shell| shell.command(&batch));
            }
            ("ROLLBACK", true) => {
                self.batch = None;
                return Ok(Next::GoOn);
            }
            _ => {}
        }
        if let Some(batch) = &mut self.batch {
            batch.push(text.to_owned());
            return Ok(Next::GoOn);
        }
        self.timed(|shell| {
            if READING.contains(&first) {
                match shell.show_query(text)? {
                    Ok(()) => return Ok(()),
                    // It was not as harmless as it looked (`WITH … INSERT`, `PRAGMA user_version = 1`).
                    Err(why) if why == crate::sql::WOULD_CHANGE => {}
                    Err(why) => return Err(Failure::refused(why)),
                }
            }
            shell.command(&[text.to_owned()])
        })
    }

    fn timed(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Next, Failure> {
        let begun_ns = monotonic_ns();
        let done = run(self);
        if self.is_timed {
            let us = (monotonic_ns() - begun_ns) / 1000;
            self.print(&format!("Run time: {}.{:03} ms\n", us / 1000, us % 1000))?;
        }
        done.map(|()| Next::GoOn)
    }

    /// All that a query gives, or why it gives nothing.
    fn ask(&mut self, text: &str) -> Result<Result<Rows, String>, Failure> {
        let mut all = Rows::default();
        let outcome = self.query(text, &mut |_, Rows { rows, columns, .. }| {
            all.columns = columns;
            all.rows.extend(rows);
            Ok(())
        })?;
        Ok(outcome.map(|()| all))
    }

    /// Prints what a query gives as it comes, or tells why it gives nothing (more).
    fn show_query(&mut self, text: &str) -> Result<Result<(), String>, Failure> {
        let mut printer = Printer::new(self.mode);
        let outcome =
            self.query(text, &mut |out, rows| output::print(out, &printer.part(&rows)))?;
        if outcome.is_ok() {
            self.print(&printer.end())?;
        }
        Ok(outcome)
    }

    /// Hands what a query gives to `take`, part by part, with where to print it.
    fn query(
        &mut self,
        text: &str,
        take: &mut dyn FnMut(&mut dyn Write, Rows) -> Result<(), Failure>,
    ) -> Result<Result<(), String>, Failure> {
        let statement = Statement { text, parameters: Vec::new() };
        let out = &mut *self.out;
        self.client.query_rows(&statement, self.consistency, &mut |rows| take(out, rows))
    }

    /// Has statements decided and carried out as one command, and shows what they give.
    fn command(&mut self, texts: &[String]) -> Result<(), Failure> {
        let statements = texts.iter().map(|text| Statement { text, parameters: Vec::new() });
        match self.execute(statements.collect())? {
            Ok(all) => all.iter().try_for_each(|rows| self.show(rows)),
            Err((step, why)) if 1 < texts.len() => {
                let which = match texts.get(step) {
                    Some(_) => format!("statement {} of {}", step + 1, texts.len()),
                    None => "the batch".to_owned(),
                };
                Err(Failure::refused(format!("{which}: {why}; nothing of it was done")))
            }
            Err((_, why)) => Err(Failure::refused(why)),
        }
    }

    /// What statements give that are one command, or which of them failed and why.
    fn execute(
        &mut self,
        statements: Vec<Statement<'_>>,
    ) -> Result<Result<Vec<Rows>, (usize, String)>, Failure> {
        let then = statements.into_iter().map(Step::Sql).collect();
        let bytes = encode_transaction(&Transaction { then, ..Transaction::default() });
        let Answer { reply, .. } = self.client.execute(&Command::Transaction(&bytes))?;
        let rows = |step: StepReply| match step {
            StepReply::Rows(rows) => Ok(rows),
            _ => Err(super::kv::nonsense()),
        };
        match reply {
            Reply::Transaction { steps, .. } => {
                steps.into_iter().map(rows).collect::<Result<Vec<Rows>, Failure>>().map(Ok)
            }
            Reply::Failed(store::Failure::Step { step, why }) => Ok(Err((step as usize, why))),
            _ => Err(super::kv::nonsense()),
        }
    }

    fn show(&mut self, rows: &Rows) -> Result<(), Failure> {
        let text = show::text(rows, self.mode);
        self.print(&text)
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        output::print(self.out, text)
    }
}

/// A name as SQL has it, whatever is in it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as a string of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Takes the first statement, if it is complete.
fn take_statement(pending: &mut String) -> Option<String> {
    if is_blank(pending) {
        return None;
    }
    let size = first_statement(pending)?;
    let statement: String = pending.drain(..size).collect();
    Some(statement.trim().to_owned())
}
