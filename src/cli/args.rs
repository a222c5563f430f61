//! What can be typed: the subcommands and their arguments, with their help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::consistency::ReadConsistency;
use super::duration;
use super::kv::Kv;
use crate::bench::options::Options;

const AFTER_HELP: &str = "\
Exit codes:
  0   it worked
  1   a condition failed: the reply says no (get of a missing key, create of an
      existing one, cas of another value; status: nobody leads)
  2   bad command line, configuration or file
  3   it certainly did not happen: no node could be reached, or it was refused;
      serve, wal inspect: an address or the data directory is in use
  4   it may or may not have happened: no reply in time
  5   a check failed: bench --check or check found an error, serve or wal
      inspect a damaged log
  6   check could not decide: a history is cut short, or the search too long
  70  a bug in this program
  74  the disk failed; after a failed sync a node must not go on
Errors are one line on standard error.

A word that begins with a hyphen and is no option goes behind `--`:
  loggos put -- -key -value

Environment:
  LOGGOS_NODES  client addresses, where neither --nodes nor --config is given";

const SHELL_HELP: &str = "\
At a terminal: `help` lists the commands, Tab completes them, and the history is
kept in $XDG_STATE_HOME/loggos/history (else ~/.local/state/loggos/history).

A script has one command a line; `#` begins a comment line. It goes on behind a
failure, names its line, and ends with the exit code of the last one.

Words are separated by blanks; quote with '…' or \"…\", and write any byte as
\\xNN. All commands of one shell share one session.";

const CHECK_HELP: &str = "\
Histories are what `bench --history` writes, traces what `serve --trace` writes.
All histories are taken together: what one client wrote another may have read.

For a key whose operations no order explains, the fewest that show it are
printed: when each began and ended, in ms, the number of its file and client,
what it did, and what it was told; values are shown by their fingerprint.";

const BACKUP_HELP: &str = "\
The backup is the state behind one slot: it holds every write that was
acknowledged anywhere before the command began. The cluster serves meanwhile.
All of it is checked before the file gets its name.";

const RESTORE_HELP: &str = "\
The new cluster needs a name of its own. Restore each of its nodes from the same
file, then start them. Slots go on where the backup ends; ballots begin anew, so
fencing tokens of the old cluster mean nothing to the new one.";

const ADD_HELP: &str = "\
The new node is started with `join = true` in its configuration, before or after.
Its [[nodes]] name itself and at least one node of the cluster.";

const BENCH_HELP: &str = "\
What it writes stays in the store, in keys that begin with bench/.";

/// One log of commands, identical on several machines, and a key-value store on it
#[derive(Parser, Debug)]
#[command(name = "loggos", version, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a node
    Serve(ServeArgs),
    /// Print the value of a key
    Get(Online<GetArgs>),
    /// Set a key
    Put(Online<PutArgs>),
    /// Set a key that does not exist
    Create(Online<PutArgs>),
    /// Set a key that exists
    Update(Online<PutArgs>),
    /// Remove a key that exists
    Delete(Online<DeleteArgs>),
    /// Set a key if it holds the expected value (compare and set)
    Cas(Online<CasArgs>),
    /// Add to the integer of a key, and print the sum
    Incr(Online<IncrArgs>),
    /// Print keys and their values, in key order
    Scan(Online<ScanArgs>),
    /// Type commands line by line, or run a script from standard input
    #[command(after_help = SHELL_HELP)]
    Shell(Online<NoArgs>),
    /// What each node knows: leader, ballot, slots, peers
    Status(Online<StatusArgs>),
    /// Say what is wrong: why nobody leads, which link is cut, whose disk stalls
    Doctor(Online<StatusArgs>),
    /// Copy the state of a running cluster into a file
    #[command(after_help = BACKUP_HELP)]
    Backup(BackupArgs),
    /// Make the data directory of a node of a new cluster from a backup
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreArgs),
    /// Check every byte of a backup or of a node's snapshot
    Verify(VerifyArgs),
    /// Have a node take a snapshot now, and cut its log off behind it
    Snapshot(SnapshotArgs),
    /// Add, promote, remove and replace the nodes of a running cluster
    #[command(subcommand)]
    Member(MemberCommand),
    /// Say who leads
    #[command(subcommand)]
    Leader(LeaderCommand),
    /// Put load on a cluster and measure throughput, latency and gaps
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Judge recorded histories (linearizable?) and nodes' traces (agreed?)
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Start three nodes here, kill the leader, and tell what happens
    Demo(DemoArgs),
    /// Look into a node's log
    #[command(subcommand)]
    Wal(WalCommand),
}

/// The commands of the shell.
#[derive(Parser, Debug)]
#[command(name = "", no_binary_name = true, disable_help_flag = true)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
#[command(help_template = "{subcommands}\n{after-help}")]
#[command(after_help = "\
Words are separated by blanks; quote with '…' or \"…\", any byte is \\xNN.
`help COMMAND` says more. Ctrl-D leaves.")]
pub struct ShellLine {
    #[command(subcommand)]
    pub command: ShellCommand,
}

#[derive(Subcommand, Debug)]
pub enum ShellCommand {
    #[command(flatten)]
    Kv(Kv),
    /// What each node knows: leader, ballot, slots, peers
    Status(StatusArgs),
    /// Say more about a command
    Help { command: Option<String> },
    /// Leave
    #[command(alias = "quit")]
    Exit,
}

/// Arguments of a command that talks to a cluster.
#[derive(Args, Debug)]
pub struct Online<T: Args> {
    #[command(flatten)]
    pub what: T,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

#[derive(Args, Debug)]
pub struct NoArgs {}

#[derive(Subcommand, Debug)]
pub enum MemberCommand {
    /// Print who is in the cluster, in which roles and where
    List(Online<StatusArgs>),
    /// Add a node, which learns at first
    #[command(after_help = ADD_HELP)]
    Add(Online<AddArgs>),
    /// Let a node that learned all accept, lead and count for quorums
    Promote(Online<MemberArgs>),
    /// Remove a node for good; when this returns it may be stopped
    Remove(Online<MemberArgs>),
    /// Promote a node that learned all, and remove another in the same step
    Replace(Online<ReplaceArgs>),
}

#[derive(Subcommand, Debug)]
pub enum LeaderCommand {
    /// Hand the lead to a node, or to the one that suits best
    Transfer(Online<TransferArgs>),
}

#[derive(Args, Debug)]
pub struct AddArgs {
    /// Its id, which no node ever had
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub node: u16,
    /// Where the other nodes reach it, as IP:PORT
    #[arg(long, value_name = "ADDR")]
    pub peer_address: SocketAddr,
    /// Where clients reach it, as IP:PORT
    #[arg(long, value_name = "ADDR")]
    pub client_address: SocketAddr,
}

#[derive(Args, Debug)]
pub struct MemberArgs {
    /// The node's id
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub node: u16,
}

#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The node that leaves
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub old: u16,
    /// The node that comes in its place; it must have been added and have caught up
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub new: u16,
}

#[derive(Args, Debug)]
pub struct TransferArgs {
    /// The node that shall lead
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub node: Option<u16>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct ConnectArgs {
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// How long to try, at all nodes together
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse_positive)]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct NodesArgs {
    /// As HOST:PORT [default: $LOGGOS_NODES or 127.0.0.1:7401]
    #[arg(long, value_name = "ADDR,…")]
    pub nodes: Option<String>,
    /// Take them from the cluster's configuration
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Clone, Copy, Debug, Default)]
pub struct FormatArgs {
    /// Print the reply as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Tell where it was decided, and by whom
    #[arg(long, short)]
    pub verbose: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct ConsistencyArgs {
    /// linearizable: as the node is configured, or by
    /// leader, lease (where the leader holds one) or
    /// quorum; stale: what the node has applied so far
    /// [default: linearizable]
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(hide_default_value = true)]
    #[arg(value_name = "KIND", verbatim_doc_comment)]
    pub consistency: ReadConsistency,
}

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Configuration of the cluster, the same for all nodes
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "ID")]
    pub node: Option<u16>,
    /// Where its log lies
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Write trace records of what happens when
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[derive(Args, Debug)]
pub struct GetArgs {
    #[arg(help = "The key")]
    pub key: OsString,
    #[command(flatten)]
    pub consistency: ConsistencyArgs,
    /// Print the value as it is, without a newline
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Debug)]
pub struct PutArgs {
    #[arg(help = "The key")]
    pub key: OsString,
    /// The value; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    pub value: OsString,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    #[arg(help = "The key")]
    pub key: OsString,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Debug)]
pub struct CasArgs {
    #[arg(help = "The key")]
    pub key: OsString,
    /// What the key must hold (`create` is for keys that must not exist)
    #[arg(allow_negative_numbers = true)]
    pub expect: OsString,
    /// The new value; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    pub value: OsString,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Debug)]
pub struct IncrArgs {
    #[arg(help = "The key")]
    pub key: OsString,
    /// What to add; a key that does not exist counts as 0
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub by: i64,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Debug)]
pub struct ScanArgs {
    /// Only keys that begin with this
    pub prefix: Option<OsString>,
    /// First key
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    pub from: Option<OsString>,
    /// First key not to be printed
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    pub to: Option<OsString>,
    /// At most so many; each 10000 are a read of their own
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print keys only
    #[arg(long, short)]
    pub keys: bool,
    #[command(flatten)]
    pub consistency: ConsistencyArgs,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct StatusArgs {
    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Where it goes; nothing is overwritten
    pub file: PathBuf,
    #[command(flatten)]
    pub snapshot: SnapshotArgs,
}

#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// Print what it holds as one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub serve: IdentityArgs,
}

/// Whose data directory it is, as for `serve`.
#[derive(Args, Debug)]
pub struct IdentityArgs {
    /// Configuration of the new cluster, the same for all its nodes
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "ID")]
    pub node: Option<u16>,
    /// Where it is to keep its log and state
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The backup, or DATA_DIR/snapshots/SLOT.snap
    pub file: PathBuf,
    /// Print what it holds as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct SnapshotArgs {
    /// Print what it is as one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// How long to wait for it, and for each part of it where it is fetched
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_positive)]
    #[arg(help_heading = "Cluster")]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub machine: Option<MachineCommand>,
    #[command(flatten)]
    pub options: Options,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

/// Without a cluster: what no cluster on this machine can be faster than.
#[derive(Subcommand, Debug)]
pub enum MachineCommand {
    /// Measure how fast the disk makes the log durable
    Disk {
        /// A directory on the disk that data is to be on
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        #[command(flatten)]
        how: MachineArgs,
    },
    /// Measure how long messages take over loopback
    Network {
        #[command(flatten)]
        how: MachineArgs,
    },
}

#[derive(Args, Debug)]
pub struct MachineArgs {
    /// How long each line is measured
    #[arg(long, short = 'd', value_name = "TIME", default_value = "2s", value_parser = duration::parse_positive)]
    pub duration: Duration,
    /// Print it as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(next_line_help = true)]
pub struct CheckArgs {
    /// Files; of folders, the *.history and *.trace in them or one below
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// By how much the clocks of the machines may differ (not needed where
    /// all histories are of one)
    #[arg(long, value_name = "TIME", value_parser = duration::parse, verbatim_doc_comment)]
    pub clock_error: Option<Duration>,
    /// Print the verdict as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Keep the directory with configuration, logs and data
    #[arg(long)]
    pub keep: bool,
}

#[derive(Subcommand, Debug)]
pub enum WalCommand {
    /// List the records of a stopped node's log and say whether it is sound
    Inspect {
        /// The node's data directory
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap checks its definitions when it is asked to, and otherwise when a user meets the mistake.
    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        ShellLine::command().debug_assert();
    }
}
