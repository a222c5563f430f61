//! What was typed, by command, read from a line that fits its page of `manual.txt`.
//!
//! The manual has the names, the defaults and what is demanded; here stands what each value must be, and which
//! options exclude each other.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::duration;
use super::kv::Kv;
use super::load;
use super::manual::{Line, MANUAL, Page, Typed, integer_in, no_command};
#[cfg(feature = "sql")]
use super::sql;
use crate::bench::options::Options;
use crate::wire::client::Consistency;

type Read<T> = Result<T, String>;

#[derive(Debug)]
pub enum Command {
    Serve(ServeArgs),
    Kv(Kv, ConnectArgs),
    Shell(ConnectArgs),
    #[cfg(feature = "sql")]
    Sql(Online<SqlArgs>),
    Txn(Online<TxnArgs>),
    Watch(Online<WatchArgs>),
    Lock(Online<LockArgs>),
    Status(Online<StatusArgs>),
    Doctor(Online<StatusArgs>),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Verify(VerifyArgs),
    Snapshot(SnapshotArgs),
    Member(MemberCommand),
    Leader(LeaderCommand),
    Bench(BenchArgs),
    Machine(MachineCommand),
    Check(CheckArgs),
    Demo(DemoArgs),
    Wal(WalCommand),
}

impl Command {
    pub fn read(line: &Line) -> Read<Command> {
        Ok(match line.command() {
            "serve" => Command::Serve(ServeArgs::read(line)?),
            "shell" => Command::Shell(ConnectArgs::read(line)?),
            #[cfg(feature = "sql")]
            "sql" => Command::Sql(Online::read(line, SqlArgs::read)?),
            #[cfg(not(feature = "sql"))]
            "sql" => return Err("this program is built without SQL".to_owned()),
            "txn" => Command::Txn(Online::read(line, TxnArgs::read)?),
            "watch" => Command::Watch(Online::read(line, WatchArgs::read)?),
            "lock" => Command::Lock(Online::read(line, LockArgs::read)?),
            "status" => Command::Status(Online::read(line, StatusArgs::read)?),
            "doctor" => Command::Doctor(Online::read(line, StatusArgs::read)?),
            "backup" => Command::Backup(BackupArgs::read(line)?),
            "restore" => Command::Restore(RestoreArgs::read(line)?),
            "verify" => Command::Verify(VerifyArgs::read(line)?),
            "snapshot" => Command::Snapshot(SnapshotArgs::read(line)?),
            "member list" => {
                Command::Member(MemberCommand::List(Online::read(line, StatusArgs::read)?))
            }
            "member add" => Command::Member(MemberCommand::Add(Online::read(line, AddArgs::read)?)),
            "member promote" => {
                Command::Member(MemberCommand::Promote(Online::read(line, MemberArgs::read)?))
            }
            "member remove" => {
                Command::Member(MemberCommand::Remove(Online::read(line, MemberArgs::read)?))
            }
            "member replace" => {
                Command::Member(MemberCommand::Replace(Online::read(line, ReplaceArgs::read)?))
            }
            "leader transfer" => {
                Command::Leader(LeaderCommand::Transfer(Online::read(line, TransferArgs::read)?))
            }
            "bench" => Command::Bench(BenchArgs::read(line)?),
            "bench disk" => {
                let dir = needed_path(line, "--dir");
                Command::Machine(MachineCommand::Disk { dir, how: MachineArgs::read(line)? })
            }
            "bench network" => {
                Command::Machine(MachineCommand::Network { how: MachineArgs::read(line)? })
            }
            "check" => Command::Check(CheckArgs::read(line)?),
            "demo" => Command::Demo(DemoArgs { keep: line.is_given("--keep") }),
            "wal inspect" => Command::Wal(WalCommand::Inspect { dir: needed_path(line, "<DIR>") }),
            _ => Command::Kv(Kv::read(line)?, ConnectArgs::read(line)?),
        })
    }
}

impl Kv {
    fn read(line: &Line) -> Read<Kv> {
        Ok(match line.command() {
            "get" => Kv::Get(GetArgs::read(line)?),
            "put" => Kv::Put(PutArgs::read_with_ttl(line)?),
            "create" => Kv::Create(PutArgs::read(line)),
            "update" => Kv::Update(PutArgs::read(line)),
            "ttl" => Kv::Ttl(TtlArgs::read(line)?),
            "renew" => Kv::Renew(RenewArgs::read(line)?),
            "unlock" => Kv::Unlock(UnlockArgs::read(line)?),
            "delete" => {
                let key = needed_bytes(line, "<KEY>");
                Kv::Delete(DeleteArgs { key, format: FormatArgs::read(line) })
            }
            "cas" => Kv::Cas(CasArgs::read(line)),
            "incr" => Kv::Incr(IncrArgs::read(line)?),
            "scan" => Kv::Scan(ScanArgs::read(line)?),
            "iset" => Kv::ImageSet(ImageSetArgs::read(line)),
            "iget" => Kv::ImageGet(ImageGetArgs::read(line)?),
            "idelete" => {
                let hash = needed_bytes(line, "<HASH>");
                Kv::ImageDelete(ImageDeleteArgs { hash, format: FormatArgs::read(line) })
            }
            other => unreachable!("the manual has a command {other:?} that nobody reads"),
        })
    }
}

#[derive(Debug)]
pub enum ShellCommand {
    Kv(Kv),
    Status(StatusArgs),
    /// All commands, or one.
    Help(Option<String>),
    Exit,
}

impl ShellCommand {
    /// Understands a line of the shell, word by word.
    pub fn parse(mut words: Vec<OsString>) -> Read<ShellCommand> {
        let commands = shell_commands();
        let rest = words.split_off(1);
        let name = words[0].to_str().unwrap_or("");
        let Some(page) = shell_page(name) else { return Err(no_command(&words[0], &commands)) };
        let Typed::Line(line) = page.parse(rest.into())? else {
            unreachable!("in the shell no option asks for help");
        };
        Ok(match line.command() {
            "status" => ShellCommand::Status(StatusArgs::read(&line)?),
            "help" => ShellCommand::Help(line.value("[COMMAND]", String::from_str)?),
            "exit" => ShellCommand::Exit,
            _ => ShellCommand::Kv(Kv::read(&line)?),
        })
    }
}

/// The commands of the shell by name, in the order of its help.
pub fn shell_commands() -> Vec<&'static str> {
    shell_help().commands()
}

pub fn shell_help() -> Page {
    MANUAL.page("shell").expect("the manual has it")
}

/// The page of one of its commands: its own, or that of the command line without what belongs there.
pub fn shell_page(name: &str) -> Option<Page> {
    // What others call it.
    let name = if name == "quit" { "exit" } else { name };
    if !shell_commands().contains(&name) {
        return None;
    }
    let own = MANUAL.page(&format!("shell {name}"));
    Some(own.or_else(|| MANUAL.page(&format!("loggos {name}")))?.in_shell())
}

fn needed_bytes(line: &Line, name: &str) -> OsString {
    line.bytes(name).expect("the page demands it or has a default")
}

fn needed_path(line: &Line, name: &str) -> PathBuf {
    needed_bytes(line, name).into()
}

fn path(line: &Line, name: &str) -> Option<PathBuf> {
    line.bytes(name).map(PathBuf::from)
}

/// Arguments of a command that talks to a cluster.
#[derive(Debug)]
pub struct Online<T> {
    pub what: T,
    pub connect: ConnectArgs,
}

impl<T> Online<T> {
    fn read(line: &Line, read: fn(&Line) -> Read<T>) -> Read<Online<T>> {
        Ok(Online { what: read(line)?, connect: ConnectArgs::read(line)? })
    }
}

#[derive(Debug)]
pub enum MemberCommand {
    List(Online<StatusArgs>),
    Add(Online<AddArgs>),
    Promote(Online<MemberArgs>),
    Remove(Online<MemberArgs>),
    Replace(Online<ReplaceArgs>),
}

#[derive(Debug)]
pub enum LeaderCommand {
    Transfer(Online<TransferArgs>),
}

/// The id of a node.
fn node_id(text: &str) -> Read<u16> {
    integer_in(1, u16::MAX)(text)
}

#[derive(Debug)]
pub struct AddArgs {
    pub node: u16,
    pub peer_address: SocketAddr,
    pub client_address: SocketAddr,
}

impl AddArgs {
    fn read(line: &Line) -> Read<AddArgs> {
        Ok(AddArgs {
            node: line.needed("<NODE>", node_id)?,
            peer_address: line.needed("--peer-address", SocketAddr::from_str)?,
            client_address: line.needed("--client-address", SocketAddr::from_str)?,
        })
    }
}

#[derive(Debug)]
pub struct MemberArgs {
    pub node: u16,
}

impl MemberArgs {
    fn read(line: &Line) -> Read<MemberArgs> {
        Ok(MemberArgs { node: line.needed("<NODE>", node_id)? })
    }
}

#[derive(Debug)]
pub struct ReplaceArgs {
    pub old: u16,
    pub new: u16,
}

impl ReplaceArgs {
    fn read(line: &Line) -> Read<ReplaceArgs> {
        Ok(ReplaceArgs { old: line.needed("<OLD>", node_id)?, new: line.needed("<NEW>", node_id)? })
    }
}

#[derive(Debug)]
pub struct TransferArgs {
    /// None: the one that suits best.
    pub node: Option<u16>,
}

impl TransferArgs {
    fn read(line: &Line) -> Read<TransferArgs> {
        Ok(TransferArgs { node: line.value("[NODE]", node_id)? })
    }
}

#[derive(Debug)]
pub struct ConnectArgs {
    pub nodes: NodesArgs,
    /// How long to try, at all nodes together.
    pub timeout: Duration,
}

impl ConnectArgs {
    fn read(line: &Line) -> Read<ConnectArgs> {
        let timeout = line.needed("--timeout", duration::parse_positive)?;
        Ok(ConnectArgs { nodes: NodesArgs::read(line)?, timeout })
    }
}

#[derive(Debug)]
pub struct NodesArgs {
    pub nodes: Option<String>,
    pub config: Option<PathBuf>,
}

impl NodesArgs {
    fn read(line: &Line) -> Read<NodesArgs> {
        line.exclude("--nodes", "--config")?;
        let nodes = line.value("--nodes", String::from_str)?;
        Ok(NodesArgs { nodes, config: path(line, "--config") })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct FormatArgs {
    pub json: bool,
    /// Where it was decided, and by whom.
    pub verbose: bool,
}

impl FormatArgs {
    fn read(line: &Line) -> FormatArgs {
        FormatArgs { json: line.is_given("--json"), verbose: line.is_given("--verbose") }
    }
}

#[derive(Debug)]
pub struct ServeArgs {
    pub config: PathBuf,
    pub node: Option<u16>,
    pub data_dir: Option<PathBuf>,
    pub trace: Option<PathBuf>,
    pub log_level: Option<String>,
}

impl ServeArgs {
    fn read(line: &Line) -> Read<ServeArgs> {
        Ok(ServeArgs {
            config: needed_path(line, "--config"),
            node: line.value("--node", integer_in(0, u16::MAX))?,
            data_dir: path(line, "--data-dir"),
            trace: path(line, "--trace"),
            log_level: line.value("--log-level", String::from_str)?,
        })
    }
}

#[cfg(feature = "sql")]
#[derive(Debug)]
pub struct SqlArgs {
    /// Statements; none: standard input.
    pub command: Option<String>,
    /// None: what suits standard input.
    pub mode: Option<sql::Mode>,
    pub consistency: Consistency,
}

#[cfg(feature = "sql")]
impl SqlArgs {
    fn read(line: &Line) -> Read<SqlArgs> {
        Ok(SqlArgs {
            command: line.value("--command", String::from_str)?,
            mode: line.value("--mode", sql::Mode::from_str)?,
            consistency: load::consistency_within(line)?,
        })
    }
}

#[derive(Debug)]
pub struct GetArgs {
    pub key: OsString,
    pub consistency: Consistency,
    pub raw: bool,
    pub format: FormatArgs,
}

impl GetArgs {
    fn read(line: &Line) -> Read<GetArgs> {
        line.exclude("--raw", "--json")?;
        Ok(GetArgs {
            key: needed_bytes(line, "<KEY>"),
            consistency: load::consistency_within(line)?,
            raw: line.is_given("--raw"),
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct PutArgs {
    pub key: OsString,
    /// `-`: what standard input holds.
    pub value: OsString,
    /// How long the key is to live.
    pub ttl: Option<Duration>,
    pub format: FormatArgs,
}

impl PutArgs {
    fn read(line: &Line) -> PutArgs {
        PutArgs {
            key: needed_bytes(line, "<KEY>"),
            value: needed_bytes(line, "<VALUE>"),
            ttl: None,
            format: FormatArgs::read(line),
        }
    }

    fn read_with_ttl(line: &Line) -> Read<PutArgs> {
        let ttl = line.value("--ttl", duration::parse_positive)?;
        Ok(PutArgs { ttl, ..PutArgs::read(line) })
    }
}

#[derive(Debug)]
pub struct TtlArgs {
    pub key: OsString,
    pub consistency: Consistency,
    pub format: FormatArgs,
}

impl TtlArgs {
    fn read(line: &Line) -> Read<TtlArgs> {
        Ok(TtlArgs {
            key: needed_bytes(line, "<KEY>"),
            consistency: load::consistency(line)?,
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct RenewArgs {
    pub key: OsString,
    pub token: u64,
    pub ttl: Duration,
    pub format: FormatArgs,
}

impl RenewArgs {
    fn read(line: &Line) -> Read<RenewArgs> {
        Ok(RenewArgs {
            key: needed_bytes(line, "<KEY>"),
            token: line.needed("<TOKEN>", u64::from_str)?,
            ttl: line.needed("--ttl", duration::parse_positive)?,
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct UnlockArgs {
    pub key: OsString,
    pub token: u64,
    pub format: FormatArgs,
}

impl UnlockArgs {
    fn read(line: &Line) -> Read<UnlockArgs> {
        Ok(UnlockArgs {
            key: needed_bytes(line, "<KEY>"),
            token: line.needed("<TOKEN>", u64::from_str)?,
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct LockArgs {
    pub key: OsString,
    /// What to run; may be nothing.
    pub command: Vec<OsString>,
    value: Option<OsString>,
    pub ttl: Duration,
    /// None: as long as it takes.
    pub wait: Option<Duration>,
}

impl LockArgs {
    fn read(line: &Line) -> Read<LockArgs> {
        Ok(LockArgs {
            key: needed_bytes(line, "<KEY>"),
            command: line.all("[COMMAND]..."),
            value: line.bytes("--value"),
            ttl: line.needed("--ttl", duration::parse_positive)?,
            wait: line.value("--wait", duration::parse)?,
        })
    }

    /// What others see of who holds it.
    pub fn value(&self) -> Vec<u8> {
        match &self.value {
            Some(value) => value.as_bytes().to_vec(),
            None => {
                let host = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
                [host.trim_ascii(), b":", std::process::id().to_string().as_bytes()].concat()
            }
        }
    }
}

#[derive(Debug)]
pub struct WatchArgs {
    pub prefix: Option<OsString>,
    /// None: from now on.
    pub from: Option<u64>,
    pub count: Option<u64>,
    pub json: bool,
}

impl WatchArgs {
    fn read(line: &Line) -> Read<WatchArgs> {
        Ok(WatchArgs {
            prefix: line.bytes("[PREFIX]"),
            from: line.value("--from", u64::from_str)?,
            count: line.value("--count", u64::from_str)?,
            json: line.is_given("--json"),
        })
    }
}

#[derive(Debug)]
pub struct TxnArgs {
    /// None: those of standard input.
    pub lines: Vec<OsString>,
    pub format: FormatArgs,
}

impl TxnArgs {
    fn read(line: &Line) -> Read<TxnArgs> {
        Ok(TxnArgs { lines: line.all("[LINE]..."), format: FormatArgs::read(line) })
    }
}

#[derive(Debug)]
pub struct DeleteArgs {
    pub key: OsString,
    pub format: FormatArgs,
}

#[derive(Debug)]
pub struct CasArgs {
    pub key: OsString,
    pub expect: OsString,
    /// `-`: what standard input holds.
    pub value: OsString,
    pub format: FormatArgs,
}

impl CasArgs {
    fn read(line: &Line) -> CasArgs {
        CasArgs {
            key: needed_bytes(line, "<KEY>"),
            expect: needed_bytes(line, "<EXPECT>"),
            value: needed_bytes(line, "<VALUE>"),
            format: FormatArgs::read(line),
        }
    }
}

#[derive(Debug)]
pub struct IncrArgs {
    pub key: OsString,
    pub by: i64,
    pub format: FormatArgs,
}

impl IncrArgs {
    fn read(line: &Line) -> Read<IncrArgs> {
        Ok(IncrArgs {
            key: needed_bytes(line, "<KEY>"),
            by: line.needed("[BY]", i64::from_str)?,
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct ScanArgs {
    pub prefix: Option<OsString>,
    pub from: Option<OsString>,
    /// First key not to be printed.
    pub to: Option<OsString>,
    pub limit: Option<u64>,
    pub keys: bool,
    pub consistency: Consistency,
    pub format: FormatArgs,
}

impl ScanArgs {
    fn read(line: &Line) -> Read<ScanArgs> {
        line.exclude("[PREFIX]", "--from")?;
        line.exclude("[PREFIX]", "--to")?;
        Ok(ScanArgs {
            prefix: line.bytes("[PREFIX]"),
            from: line.bytes("--from"),
            to: line.bytes("--to"),
            limit: line.value("--limit", u64::from_str)?,
            keys: line.is_given("--keys"),
            consistency: load::consistency_within(line)?,
            format: FormatArgs::read(line),
        })
    }
}

/// Hashes of images are as they were typed, in hex.
#[derive(Debug)]
pub struct ImageSetArgs {
    pub hash: OsString,
    /// `-`: what standard input holds.
    pub meta: OsString,
    pub format: FormatArgs,
}

impl ImageSetArgs {
    fn read(line: &Line) -> ImageSetArgs {
        ImageSetArgs {
            hash: needed_bytes(line, "<HASH>"),
            meta: needed_bytes(line, "<META>"),
            format: FormatArgs::read(line),
        }
    }
}

#[derive(Debug)]
pub struct ImageGetArgs {
    pub hash: OsString,
    /// None: this image alone.
    pub within: Option<u32>,
    pub limit: Option<u32>,
    pub consistency: Consistency,
    pub raw: bool,
    pub format: FormatArgs,
}

impl ImageGetArgs {
    fn read(line: &Line) -> Read<ImageGetArgs> {
        line.exclude("--raw", "--json")?;
        line.exclude("--raw", "--within")?;
        if line.is_given("--limit") && !line.is_given("--within") {
            return Err("--limit is for --within".to_owned());
        }
        Ok(ImageGetArgs {
            hash: needed_bytes(line, "<HASH>"),
            within: line.value("--within", u32::from_str)?,
            limit: line.value("--limit", u32::from_str)?,
            consistency: load::consistency(line)?,
            raw: line.is_given("--raw"),
            format: FormatArgs::read(line),
        })
    }
}

#[derive(Debug)]
pub struct ImageDeleteArgs {
    pub hash: OsString,
    pub format: FormatArgs,
}

#[derive(Clone, Copy, Debug)]
pub struct StatusArgs {
    pub json: bool,
}

impl StatusArgs {
    fn read(line: &Line) -> Read<StatusArgs> {
        Ok(StatusArgs { json: line.is_given("--json") })
    }
}

#[derive(Debug)]
pub struct BackupArgs {
    pub file: PathBuf,
    pub snapshot: SnapshotArgs,
}

impl BackupArgs {
    fn read(line: &Line) -> Read<BackupArgs> {
        let file = needed_path(line, "<FILE>");
        Ok(BackupArgs { file, snapshot: SnapshotArgs::read(line)? })
    }
}

#[derive(Debug)]
pub struct RestoreArgs {
    pub file: PathBuf,
    pub json: bool,
    pub serve: IdentityArgs,
}

impl RestoreArgs {
    fn read(line: &Line) -> Read<RestoreArgs> {
        Ok(RestoreArgs {
            file: needed_path(line, "<FILE>"),
            json: line.is_given("--json"),
            serve: IdentityArgs {
                config: needed_path(line, "--config"),
                node: line.value("--node", integer_in(0, u16::MAX))?,
                data_dir: path(line, "--data-dir"),
            },
        })
    }
}

/// Whose data directory it is, as for `serve`.
#[derive(Debug)]
pub struct IdentityArgs {
    pub config: PathBuf,
    pub node: Option<u16>,
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug)]
pub struct VerifyArgs {
    pub file: PathBuf,
    pub json: bool,
}

impl VerifyArgs {
    fn read(line: &Line) -> Read<VerifyArgs> {
        Ok(VerifyArgs { file: needed_path(line, "<FILE>"), json: line.is_given("--json") })
    }
}

#[derive(Debug)]
pub struct SnapshotArgs {
    pub json: bool,
    pub nodes: NodesArgs,
    /// For the snapshot, and for each part of it where it is fetched.
    pub timeout: Duration,
}

impl SnapshotArgs {
    fn read(line: &Line) -> Read<SnapshotArgs> {
        let ConnectArgs { nodes, timeout } = ConnectArgs::read(line)?;
        Ok(SnapshotArgs { json: line.is_given("--json"), nodes, timeout })
    }
}

#[derive(Debug)]
pub struct BenchArgs {
    pub options: Options,
    pub nodes: NodesArgs,
}

impl BenchArgs {
    fn read(line: &Line) -> Read<BenchArgs> {
        Ok(BenchArgs { options: load::options(line)?, nodes: NodesArgs::read(line)? })
    }
}

/// Without a cluster: what no cluster on this machine can be faster than.
#[derive(Debug)]
pub enum MachineCommand {
    Disk { dir: PathBuf, how: MachineArgs },
    Network { how: MachineArgs },
}

#[derive(Debug)]
pub struct MachineArgs {
    pub duration: Duration,
    pub json: bool,
}

impl MachineArgs {
    fn read(line: &Line) -> Read<MachineArgs> {
        let duration = line.needed("--duration", duration::parse_positive)?;
        Ok(MachineArgs { duration, json: line.is_given("--json") })
    }
}

#[derive(Debug)]
pub struct CheckArgs {
    pub paths: Vec<PathBuf>,
    pub clock_error: Option<Duration>,
    pub json: bool,
}

impl CheckArgs {
    fn read(line: &Line) -> Read<CheckArgs> {
        Ok(CheckArgs {
            paths: line.all("<PATH>...").into_iter().map(PathBuf::from).collect(),
            clock_error: line.value("--clock-error", duration::parse)?,
            json: line.is_given("--json"),
        })
    }
}

#[derive(Debug)]
pub struct DemoArgs {
    pub keep: bool,
}

#[derive(Debug)]
pub enum WalCommand {
    Inspect { dir: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that nobody reads, or an option that is read and on no page, panics here and not before a user.
    #[test]
    fn every_command_of_the_manual_is_read() {
        let commands = MANUAL.names().filter(|name| name.starts_with("loggos"));
        for page in commands.map(|name| MANUAL.page(name).unwrap()) {
            let name = page.name;
            if !page.text().contains("[OPTIONS]") && !page.commands().is_empty() {
                for command in page.commands() {
                    assert!(
                        MANUAL.page(&format!("{name} {command}")).is_some(),
                        "{name} {command}"
                    );
                }
                continue;
            }
            // Enough for any of them.
            let words = page.demanded().into_iter().flat_map(|label| match label.split_once(' ') {
                Some((option, _)) => vec![OsString::from(option), "127.0.0.1:1".into()],
                None => vec!["1".into()],
            });
            match page.clone().parse(words.collect()) {
                Ok(Typed::Line(line)) => assert!(Command::read(&line).is_ok(), "{name}"),
                _ => panic!("{name}"),
            }
        }
        for command in shell_commands() {
            let page = shell_page(command).unwrap();
            let words = std::iter::once(command).chain(page.demanded().into_iter().map(|_| "1"));
            assert!(ShellCommand::parse(words.map(OsString::from).collect()).is_ok(), "{command}");
        }
    }

    /// The list of commands says of each what its page says.
    #[test]
    fn the_list_and_the_pages_agree() {
        for name in MANUAL.names() {
            let page = MANUAL.page(name).unwrap();
            let text = page.text().split_whitespace().collect::<Vec<_>>().join(" ");
            for command in page.commands() {
                let below = shell_page(command).filter(|_| name == "shell");
                let below = below.or(MANUAL.page(&format!("{name} {command}"))).unwrap();
                let line = format!(" {command} {}", below.about());
                assert!(text.contains(&line), "{name}: {line}");
            }
        }
    }

    #[test]
    fn pages_fit_a_terminal() {
        for name in MANUAL.names() {
            for line in MANUAL.page(name).unwrap().text().lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}
