//! `loggos lock`: waits for a lock, and holds it while a command runs.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command as Process, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::args::LockArgs;
use super::output::{self, quote};
use super::{Failure, kv};
use crate::client::Client;
use crate::store::{self, Command, Reply};
use crate::trace::monotonic_ns;

/// How soon a signal is passed on to the command.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(100);

pub fn run(
    args: &LockArgs,
    connect: impl Fn() -> Client,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = connect();
    let key = kv::key(&args.key)?;
    let value = args.value();
    let token = take(args, &mut client, key, &value)?;
    let Some((program, rest)) = args.command.split_first() else {
        return output::print(out, &format!("{token}\n"));
    };
    let mut process = Process::new(program);
    process.args(rest).env("LOGGOS_LOCK", &args.key).env("LOGGOS_TOKEN", token.to_string());
    let signals = Signals::default();
    signals.catch()?;
    let status = process.spawn().map(|child| {
        let held = Held { key, token, ttl: args.ttl };
        held.while_running(child, &connect, &signals)
    });
    let freed = client.execute(&Command::Unlock { key, token });
    let status = status
        .map_err(|error| Failure::usage(format!("{}: {error}", program.to_string_lossy())))??;
    match freed {
        Ok(answer) if answer.reply == Reply::Failed(store::Failure::NotHeld) => {
            return Err(Failure::refused(format!("the lock {} was lost on the way", quote(key))));
        }
        Ok(_) => {}
        Err(error) => eprintln!("loggos: the lock ends by itself, it could not be freed: {error}"),
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure { code: code as u8, message: String::new() }),
        (None, signal) => {
            let code = 128u8.wrapping_add(signal.unwrap_or_default() as u8);
            Err(Failure { code, message: String::new() })
        }
    }
}

/// Waits until nobody else holds the lock, and takes it.
fn take(args: &LockArgs, client: &mut Client, key: &[u8], value: &[u8]) -> Result<u64, Failure> {
    let end_ns = args.wait.map(|wait| monotonic_ns() + wait.as_nanos() as u64);
    let ttl_us = args.ttl.as_micros() as u64;
    loop {
        let answer = client.execute(&Command::Lock { key, value, ttl_us })?;
        let holder = match answer.reply {
            Reply::Token(token) => return Ok(token),
            Reply::Failed(store::Failure::Mismatch { present }) => present.unwrap_or_default(),
            _ => return Err(kv::nonsense()),
        };
        let mut watcher = client.watch(key, Some(answer.slot.next()))?;
        loop {
            let now_ns = monotonic_ns();
            if end_ns.is_some_and(|end_ns| end_ns <= now_ns) {
                let (key, holder) = (quote(key), quote(&holder));
                return Err(Failure::refused(format!("the lock {key} is held by {holder}")));
            }
            let left_ns = end_ns.map_or(u64::MAX, |end_ns| end_ns - now_ns);
            let patience = Duration::from_nanos(left_ns).min(Duration::from_secs(10));
            match watcher.wait_within(patience) {
                Ok(Some(event)) if event.key == key && event.value.is_none() => break,
                Ok(_) => {}
                // What happened to it meanwhile nobody knows: ask again.
                Err(_) => break,
            }
        }
    }
}

/// A lock that is held.
struct Held<'a> {
    key: &'a [u8],
    token: u64,
    ttl: Duration,
}

impl Held<'_> {
    /// Keeps the lock until the child has ended, and ends it if the lock is lost.
    fn while_running(
        &self,
        mut child: Child,
        connect: &impl Fn() -> Client,
        signals: &Signals,
    ) -> Result<ExitStatus, Failure> {
        let pid = Pid::from_child(&child);
        let ended = AtomicBool::new(false);
        let mut client = connect();
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| {
                let mut renew_ns = monotonic_ns();
                while !ended.load(Ordering::Acquire) {
                    if signals.take() {
                        let _ = kill_process(pid, Signal::TERM);
                    }
                    if renew_ns <= monotonic_ns() {
                        renew_ns = monotonic_ns() + self.ttl.as_nanos() as u64 / 3;
                        if !self.renew(&mut client) {
                            eprintln!("loggos: the lock {} was lost", quote(self.key));
                            let _ = kill_process(pid, Signal::TERM);
                            return;
                        }
                    }
                    std::thread::park_timeout(SIGNAL_PATIENCE);
                }
            });
            let status = child.wait();
            ended.store(true, Ordering::Release);
            keeper.thread().unpark();
            status.map_err(|error| Failure::usage(format!("cannot wait for the command: {error}")))
        })
    }

    /// Whether it is held still, as far as we know: when no node answers it may be.
    fn renew(&self, client: &mut Client) -> bool {
        let ttl_us = self.ttl.as_micros() as u64;
        let renew = Command::Renew { key: self.key, token: self.token, ttl_us };
        match client.execute(&renew) {
            Ok(answer) => answer.reply == Reply::Done,
            Err(_) => true,
        }
    }
}

/// What would end us and is for the command: it may have something to put in order.
#[derive(Default)]
struct Signals {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// The terminal interrupts the command itself; here that is only not to end us.
    fn catch(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::usage(format!("signals: {error}"));
        signal_hook::flag::register(SIGINT, Arc::clone(&self.interrupted)).map_err(failed)?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&self.terminated)).map_err(failed)?;
        Ok(())
    }

    /// Whether we were asked to end since the last call.
    fn take(&self) -> bool {
        self.terminated.swap(false, Ordering::AcqRel)
    }
}
