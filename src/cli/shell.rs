//! `loggos shell`: the commands on keys, line by line, with history and completion; or a script.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::args::{ShellCommand, shell_commands, shell_help, shell_page};
use super::kv;
use super::terminal::{Outcome, Terminal, Typed};
use super::{Failure, status, words};
use crate::client::Client;

pub struct Shell {
    nodes: Vec<SocketAddr>,
    timeout: Duration,
    /// One for the whole shell: one session, and it stays with a node that answers.
    client: Client,
}

enum Next {
    GoOn,
    Leave,
}

impl Shell {
    pub fn new(nodes: Vec<SocketAddr>, timeout: Duration) -> Shell {
        let client = Client::new(&nodes, timeout);
        Shell { nodes, timeout, client }
    }

    /// Reads commands from standard input to its end.
    pub fn run(&mut self) -> Result<(), Failure> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            self.run_terminal()
        } else {
            self.run_script(&mut stdin.lock(), &mut std::io::stdout())
        }
    }

    /// One command a line, `#` begins a comment line. Goes on behind a failure; the last one is the
    /// outcome.
    fn run_script(&mut self, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
        let mut outcome = Outcome::default();
        for (number, line) in (1..).zip(input.lines()) {
            let line = line.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
            match self.run_line(&line, out) {
                Ok(Next::GoOn) => {}
                Ok(Next::Leave) => break,
                Err(failure) => {
                    let message = format!("line {number}: {}", failure.message);
                    outcome.note(Failure { message, ..failure });
                }
            }
        }
        outcome.end()
    }

    fn run_terminal(&mut self) -> Result<(), Failure> {
        let mut terminal = Terminal::new(Some(Words::new()), "history")?;
        println!("`help` lists the commands, Ctrl-D leaves.");
        loop {
            match terminal.read("loggos> ")? {
                Typed::Line(line) => {
                    terminal.remember(&line)?;
                    match self.run_line(&line, &mut std::io::stdout()) {
                        Ok(Next::GoOn) => {}
                        Ok(Next::Leave) => break,
                        Err(failure) => failure.print(),
                    }
                }
                Typed::Interrupted => {}
                Typed::End => break,
            }
        }
        terminal.close();
        Ok(())
    }

    fn run_line(&mut self, line: &str, out: &mut dyn Write) -> Result<Next, Failure> {
        if line.trim_start().starts_with('#') {
            return Ok(Next::GoOn);
        }
        let words = words::split(line).map_err(Failure::usage)?;
        if words.is_empty() {
            return Ok(Next::GoOn);
        }
        let parsed = ShellCommand::parse(words.into_iter().map(os_string).collect());
        let kv = match parsed.map_err(|error| Failure::usage(format!("{error}; try `help`")))? {
            ShellCommand::Kv(kv) => kv,
            ShellCommand::Status(args) => {
                status::run(args, &self.nodes, self.timeout, out)?;
                return Ok(Next::GoOn);
            }
            ShellCommand::Help(command) => {
                let help = help(command.as_deref())?;
                out.write_all(help.as_bytes()).map_err(|error| Failure::output(&error))?;
                return Ok(Next::GoOn);
            }
            ShellCommand::Exit => return Ok(Next::Leave),
        };
        let mut session = kv::Session { client: &mut self.client, out, input: None };
        kv::run(&kv, &mut session).map(|()| Next::GoOn)
    }
}

/// The list of commands, or all about one.
fn help(command: Option<&str>) -> Result<String, Failure> {
    let page = match command {
        None => Some(shell_help()),
        Some(name) => shell_page(name),
    };
    page.map(|page| page.text()).ok_or_else(|| {
        let name = command.unwrap_or_default();
        Failure::usage(format!("there is no command {name:?}; try `help`"))
    })
}

pub fn os_string(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// Completes the first word, and what follows `help`.
struct Words {
    commands: Vec<&'static str>,
}

impl Words {
    fn new() -> Words {
        Words { commands: shell_commands() }
    }

    /// Where the word before `pos` begins, and the commands that it can become.
    fn candidates(&self, line: &str, pos: usize) -> (usize, Vec<String>) {
        let before = &line[..pos];
        let start = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let first = before[..start].trim();
        if !first.is_empty() && first != "help" {
            return (pos, Vec::new());
        }
        let matching = self.commands.iter().filter(|name| name.starts_with(&before[start..]));
        (start, matching.map(|name| format!("{name} ")).collect())
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line, pos))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::Fake;

    fn script(lines: &str) -> (String, Option<Failure>) {
        let fake = Fake::well(1);
        let mut shell = Shell::new(fake.addresses, Duration::from_secs(20));
        let mut out = Vec::new();
        let outcome = shell.run_script(&mut lines.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), outcome.err())
    }

    #[test]
    fn a_script_runs_line_by_line() {
        let (out, failure) = script("# comment\n\nput 'a b' \"c\\x64\"\nget 'a b'\nexit\nget x");
        assert_eq!((out.as_str(), failure.is_none()), ("ok\ncd\n", true));
    }

    /// A failure does not stop a script; the last one gives the exit code and names its line.
    #[test]
    fn the_last_failure_counts() {
        let (out, failure) = script("get x\nput x 1\nbogus\nincr x\n");
        assert_eq!(out, "ok\n2\n");
        let failure = failure.unwrap();
        assert_eq!(failure.code, 2);
        assert!(failure.message.starts_with("line 3: "), "{}", failure.message);
    }

    #[test]
    fn the_value_of_a_hyphen_is_a_hyphen() {
        assert_eq!(script("put k -\nget k").0, "ok\n-\n");
    }

    #[test]
    fn help_lists_the_commands() {
        let (out, failure) = script("help\nhelp cas\n");
        assert!(failure.is_none());
        for word in ["get", "scan", "status", "exit", "EXPECT"] {
            assert!(out.contains(word), "{word}: {out}");
        }
        assert_eq!(script("help bogus").1.unwrap().code, 2);
    }

    #[test]
    fn completion() {
        let words = Words::new();
        assert_eq!(words.candidates("cr", 2), (0, vec!["create ".to_owned()]));
        assert_eq!(words.candidates("help st", 7), (5, vec!["status ".to_owned()]));
        assert_eq!(words.candidates("get cr", 6), (6, vec![]), "keys are not completed");
        assert!(words.candidates("", 0).1.len() > 8);
    }
}
