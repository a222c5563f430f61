//! The command line of `loggos`.
//!
//! Invariant: what was asked for goes to standard output; whatever goes wrong is one line on standard
//! error that says what to do, and an exit code from the list in `--help`.

mod args;
mod backup;
mod bench;
mod check;
pub mod consistency;
mod demo;
mod doctor;
pub mod duration;
mod kv;
mod machine;
mod matrix;
mod member;
mod output;
mod server;
mod shell;
mod status;
pub mod words;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::client::{self, Client};
use args::{BenchArgs, Cli, Command, ConnectArgs, NodesArgs, WalCommand};
use kv::Kv;

const NODES_DEFAULT: &str = "127.0.0.1:7401";

/// Exit codes; `args::AFTER_HELP` explains them to users.
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_asked_for(&error) => {
            // Help goes to standard output; a reader that has had enough is no error.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let failure = Failure::usage(reduce(&error, "--help"));
            failure.print();
            return failure.code.into();
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.code.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => server::serve(args),
        Command::Get(online) => run_kv(&Kv::Get(online.what), &online.connect),
        Command::Put(online) => run_kv(&Kv::Put(online.what), &online.connect),
        Command::Create(online) => run_kv(&Kv::Create(online.what), &online.connect),
        Command::Update(online) => run_kv(&Kv::Update(online.what), &online.connect),
        Command::Delete(online) => run_kv(&Kv::Delete(online.what), &online.connect),
        Command::Cas(online) => run_kv(&Kv::Cas(online.what), &online.connect),
        Command::Incr(online) => run_kv(&Kv::Incr(online.what), &online.connect),
        Command::Scan(online) => run_kv(&Kv::Scan(online.what), &online.connect),
        Command::Shell(online) => {
            let nodes = nodes(&online.connect.nodes)?;
            shell::Shell::new(nodes, online.connect.timeout).run()
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
        Command::Bench(BenchArgs { machine: Some(machine), .. }) => machine::run(&machine),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Wal(WalCommand::Inspect { dir }) => server::inspect(&dir),
    }
}

fn run_kv(kv: &Kv, connect: &ConnectArgs) -> Result<(), Failure> {
    let nodes = nodes(&connect.nodes)?;
    let mut client = Client::new(&nodes, connect.timeout);
    let mut session =
        kv::Session { client: &mut client, out: &mut io::stdout(), input: Some(&mut io::stdin()) };
    kv::run(kv, &mut session)
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

/// Whether this "error" is the help or version that somebody asked for.
fn is_asked_for(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// What clap has to say about a bad command line, in one line. `help`: where there is more.
fn reduce(error: &clap::Error, help: &str) -> String {
    if matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return format!("a command is missing; try {help}");
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Behind the message and its tips come the usage and where to find more.
    let message = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    let message = output::one_line(&message).replace(":;", ":").replace("; tip:", " - tip:");
    format!("{message}; try {help}")
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

    fn reduced(line: &str) -> String {
        let words = std::iter::once("loggos").chain(line.split_whitespace());
        let text = reduce(&Cli::try_parse_from(words).unwrap_err(), "--help");
        assert_eq!(text.lines().count(), 1);
        text
    }

    #[test]
    fn bad_command_lines_become_one_line() {
        assert_eq!(reduced(""), "a command is missing; try --help");
        assert_eq!(reduced("wal"), "a command is missing; try --help");
        assert_eq!(
            reduced("put"),
            "the following required arguments were not provided: <KEY>; <VALUE>; try --help"
        );
        let text = reduced("get k --node x");
        assert!(text.starts_with("unexpected argument '--node' found - tip: "), "{text}");
        assert!(reduced("bogus").contains("bogus"));
        assert!(reduced("bench --duration 5parsecs").contains("parsecs"));
        assert!(reduced("bench --workload juggle").contains("possible values: put, incr, create"));
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
