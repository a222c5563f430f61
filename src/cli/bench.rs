//! `loggos bench`: between the command line and the load generator.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::args::BenchArgs;
use super::{Failure, code, nodes};
use crate::bench;

/// Where nobody watches, progress is worth fewer lines.
const INTERVAL_UNWATCHED_MIN: Duration = Duration::from_secs(5);

pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let nodes = nodes(&args.nodes)?;
    let mut options = args.options;
    if !io::stderr().is_terminal() {
        options.interval = options.interval.max(INTERVAL_UNWATCHED_MIN);
    }
    let quiet = options.quiet;
    let mut progress = |line: &str| {
        if !quiet {
            eprintln!("{line}");
        }
    };
    let outcome = match bench::run(&options, &nodes, &mut progress, interrupt_flag()?) {
        Ok(outcome) => outcome,
        Err(bench::Error::Usage(message)) => return Err(Failure::usage(message)),
        Err(bench::Error::Unreachable(message)) => return Err(Failure::definite(message)),
    };
    io::stdout().write_all(outcome.text.as_bytes()).map_err(|error| Failure::output(&error))?;
    if !outcome.is_well {
        let message = "the check failed: see its counts in the report".to_owned();
        return Err(Failure { code: code::CHECK, message });
    }
    if outcome.ok == 0 {
        let message = "no operation succeeded while it was measured".to_owned();
        return Err(Failure { code: code::UNKNOWN, message });
    }
    Ok(())
}

/// A flag that the first Ctrl-C (or SIGTERM) sets; the second ends the process at once.
pub fn interrupt_flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first of these looks at what the second sets.
        signal_hook::flag::register_conditional_default(signal, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|error| Failure::usage(format!("cannot watch for signals: {error}")))?;
    }
    Ok(flag)
}
