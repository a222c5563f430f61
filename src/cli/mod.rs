//! The command line of `loggos`.
//!
//! Invariant: what was asked for goes to standard output; whatever goes wrong is one line on standard
//! error that says what to do, and an exit code from the list in `--help`.

pub mod args;
mod backup;
pub mod bench;
mod check;
mod demo;
mod doctor;
pub mod duration;
mod images;
mod kv;
mod load;
mod lock;
mod machine;
pub mod manual;
mod matrix;
mod member;
mod output;
mod server;
mod shell;
#[cfg(feature = "sql")]
mod sql;
mod status;
mod terminal;
mod txn;
mod watch;
pub mod words;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use crate::client::{self, Client};
use args::{Command, ConnectArgs, NodesArgs, WalCommand};
use kv::Kv;
use manual::{MANUAL, Typed};

const NODES_DEFAULT: &str = "127.0.0.1:7401";

/// Exit codes; `manual.txt` explains them to users.
pub mod code {
    pub const REFUSED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const DEFINITE: u8 = 3;
    pub const UNKNOWN: u8 = 4;
    pub const CHECK: u8 = 5;
    pub const UNDECIDED: u8 = 6;
    pub const BUG: u8 = 70;
    pub const DISK: u8 = 74;
}

/// How a command ends that did not work: an exit code, and one line for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// Empty: everything has been said.
    pub message: String,
}

impl Failure {
    pub fn refused(message: String) -> Failure {
        Failure { code: code::REFUSED, message }
    }

    pub fn usage(message: String) -> Failure {
        Failure { code: code::USAGE, message }
    }

    pub fn definite(message: String) -> Failure {
        Failure { code: code::DEFINITE, message }
    }

    /// Standard output is gone. If its reader has had enough (`| head`), that is no failure.
    pub fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { code: 0, message: String::new() },
            _ => Failure::usage(format!("cannot write to standard output: {error}")),
        }
    }

    pub fn print(&self) {
        if !self.message.is_empty() {
            eprintln!("{self}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loggos: {}", output::one_line(&self.message))
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let code = if error.is_definite() { code::DEFINITE } else { code::UNKNOWN };
        Failure { code, message: error.to_string() }
    }
}

pub fn main() -> ExitCode {
    report_bugs();
    let typed = std::env::args_os().skip(1).collect();
    let command = match understand(typed) {
        Ok(Some(command)) => command,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            let failure = Failure::usage(format!("{message}; try --help"));
            failure.print();
            return failure.code.into();
        }
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.code.into()
        }
    }
}

/// The command that was typed; none if that was for help or the version, which is printed.
fn understand(typed: Vec<OsString>) -> Result<Option<Command>, String> {
    match MANUAL.parse("loggos", typed)? {
        Typed::Line(line) => Command::read(&line).map(Some),
        Typed::Asked(text) => {
            // A reader that has had enough is no error.
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(None)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => server::serve(args),
        Command::Kv(kv, connect) => run_kv(&kv, &connect),
        Command::Shell(connect) => shell::Shell::new(nodes(&connect.nodes)?, connect.timeout).run(),
        #[cfg(feature = "sql")]
        Command::Sql(online) => {
            let mut client = client(&online.connect)?;
            sql::run(&online.what, &mut client, &mut io::stdout())
        }
        Command::Txn(online) => {
            let mut client = client(&online.connect)?;
            txn::run(&online.what, &mut client, &mut io::stdout())
        }
        Command::Watch(online) => {
            let mut client = client(&online.connect)?;
            watch::run(&online.what, &mut client, &mut io::stdout())
        }
        Command::Lock(online) => {
            let nodes = nodes(&online.connect.nodes)?;
            let connect = || Client::new(&nodes, online.connect.timeout);
            lock::run(&online.what, connect, &mut io::stdout())
        }
        Command::Status(online) => {
            let nodes = nodes(&online.connect.nodes)?;
            status::run(online.what, &nodes, online.connect.timeout, &mut io::stdout())
        }
        Command::Doctor(online) => {
            let nodes = nodes(&online.connect.nodes)?;
            doctor::run(online.what, &nodes, online.connect.timeout, &mut io::stdout())
        }
        Command::Backup(args) => {
            backup::backup(&args, &nodes(&args.snapshot.nodes)?, &mut io::stdout())
        }
        Command::Restore(args) => backup::restore(&args, &mut io::stdout()),
        Command::Verify(args) => backup::verify(&args, &mut io::stdout()),
        Command::Snapshot(args) => backup::take(&args, &nodes(&args.nodes)?, &mut io::stdout()),
        Command::Member(command) => member::run(command, &mut io::stdout()),
        Command::Leader(command) => member::run_leader(command, &mut io::stdout()),
        Command::Bench(args) => bench::run(args),
        Command::Machine(command) => machine::run(&command),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Wal(WalCommand::Inspect { dir }) => server::inspect(&dir),
    }
}

fn run_kv(kv: &Kv, connect: &ConnectArgs) -> Result<(), Failure> {
    let mut client = client(connect)?;
    let mut session =
        kv::Session { client: &mut client, out: &mut io::stdout(), input: Some(&mut io::stdin()) };
    kv::run(kv, &mut session)
}

fn client(connect: &ConnectArgs) -> Result<Client, Failure> {
    Ok(Client::new(&nodes(&connect.nodes)?, connect.timeout))
}

/// The client addresses: of the command line, of a configuration, of the environment, or ours.
fn nodes(args: &NodesArgs) -> Result<Vec<SocketAddr>, Failure> {
    if let Some(path) = &args.config {
        return server::client_addresses(path);
    }
    match (&args.nodes, std::env::var("LOGGOS_NODES")) {
        (Some(nodes), _) => resolve(nodes, "--nodes"),
        (None, Ok(nodes)) => resolve(&nodes, "LOGGOS_NODES"),
        (None, Err(_)) => resolve(NODES_DEFAULT, "--nodes"),
    }
}

fn resolve(list: &str, origin: &str) -> Result<Vec<SocketAddr>, Failure> {
    let mut nodes = Vec::new();
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let failed = |why: String| Failure::usage(format!("{origin}: {text:?}: {why}"));
        if text.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(failed("an address is HOST:PORT".to_owned()));
        }
        // One address a name: a second one of the same node would only be tried in vain.
        match text.to_socket_addrs() {
            Ok(mut addresses) => nodes.extend(addresses.next()),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    if nodes.is_empty() {
        return Err(Failure::usage(format!("{origin}: there is no address in it")));
    }
    Ok(nodes)
}

/// A broken invariant is a bug of ours: one line that says so, and its own exit code.
fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let place = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
        eprintln!(
            "loggos: this is a bug in loggos {}, please report it: {}{place}",
            env!("CARGO_PKG_VERSION"),
            output::one_line(what)
        );
        std::process::exit(code::BUG.into());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        match understand(line.split_whitespace().map(OsString::from).collect()) {
            Err(message) => message,
            Ok(_) => panic!("{line}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_said() {
        for (line, message) in [
            ("", "a command is missing"),
            ("wal", "a command is missing"),
            ("bogus", "unrecognized subcommand 'bogus'"),
            (
                "member promot 1",
                "unrecognized subcommand 'promot' - tip: a similar subcommand exists: 'promote'",
            ),
            ("put", "the following required arguments were not provided: <KEY>; <VALUE>"),
            ("serve", "the following required arguments were not provided: --config <FILE>"),
            ("put a b c", "unexpected argument 'c' found"),
            (
                "get k --node x",
                "unexpected argument '--node' found - tip: a similar argument exists: '--nodes'",
            ),
            ("put k -v", "the following required arguments were not provided: <VALUE>"),
            (
                "put k -x",
                "unexpected argument '-x' found - tip: to pass '-x' as a value, use '-- -x'",
            ),
            ("get k --json=1", "unexpected value '1' for '--json' found; no more were expected"),
            ("get k --raw --json", "the argument '--raw' cannot be used with '--json'"),
            ("get k --json --json", "the argument '--json' cannot be used multiple times"),
            ("get k --nodes", "a value is required for '--nodes <ADDR,…>' but none was supplied"),
            (
                "get k --nodes --json",
                "a value is required for '--nodes <ADDR,…>' but none was supplied",
            ),
            (
                "bench --duration 5parsecs",
                "invalid value '5parsecs' for '--duration <TIME>': the unit \"parsecs\" is none of \
                 us, ms, s, m, h",
            ),
            (
                "bench -qc4x",
                "invalid value '4x' for '--clients <N>': invalid digit found in string",
            ),
            (
                "bench --workload inc",
                "invalid value 'inc' for '--workload <put|incr|create|sql>': [possible values: put, \
                 incr, create, sql] - tip: a similar value exists: 'incr'",
            ),
            ("member promote 0", "invalid value '0' for '<NODE>': 0 is not in 1..=65535"),
            ("incr k -- -x", "invalid value '-x' for '[BY]': invalid digit found in string"),
        ] {
            assert_eq!(refused(line), message);
        }
    }

    #[test]
    fn what_may_begin_with_a_hyphen() {
        for line in ["incr k -5", "put k -", "put k -5.5e3", "put -- -k -v", "scan -kv --limit=1"] {
            let typed = line.split_whitespace().map(OsString::from).collect();
            assert!(matches!(understand(typed), Ok(Some(_))), "{line}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(resolve("127.0.0.1:1, [::1]:2,", "x").unwrap().len(), 2);
        for list in ["", ",", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"] {
            let failure = resolve(list, "--nodes").unwrap_err();
            assert_eq!(failure.code, 2);
            assert!(failure.message.starts_with("--nodes: "), "{failure}");
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        assert_eq!(Failure::output(&io::ErrorKind::BrokenPipe.into()).code, 0);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).code, 2);
    }
}
