//! `loggos check`: between the command line and the judging of histories and traces.

use std::io::{self, Write};

use serde_json::json;

use super::args::CheckArgs;
use super::{Failure, code, output};
use crate::check::nodes;
use crate::check::run::{Judgement, Run};

/// Keys that are named where none was decided.
const NAMED_MAX: usize = 3;

/// The verdict on a whole run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overall {
    Well,
    Violated,
    Undecided,
}

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let error_ns =
        args.clock_error.map(|error| u64::try_from(error.as_nanos()).unwrap_or(u64::MAX));
    let run = Run::read(&args.paths, error_ns).map_err(Failure::usage)?;
    let judgement = run.judge();
    let nodes = run.verify_nodes();
    let overall = overall(&run, &judgement, &nodes);
    let text = if args.json {
        format!("{}\n", report(&run, &judgement, &nodes, overall))
    } else {
        lines(&run, &judgement, &nodes).join("\n") + "\n"
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::output(&error))?;
    // The report has said what and where.
    match overall {
        Overall::Well => Ok(()),
        Overall::Violated => Err(Failure { code: code::CHECK, message: String::new() }),
        Overall::Undecided => Err(Failure { code: code::UNDECIDED, message: String::new() }),
    }
}

fn overall(run: &Run, judgement: &Judgement, nodes: &nodes::Verdict) -> Overall {
    if !nodes.is_well() || (0 < judgement.violated && run.cut_short.is_empty()) {
        Overall::Violated
    } else if run.cut_short.is_empty() && judgement.undecided.is_empty() {
        Overall::Well
    } else {
        Overall::Undecided
    }
}

fn lines(run: &Run, judgement: &Judgement, nodes: &nodes::Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    if !run.files.is_empty() {
        lines.push(format!(
            "histories: {}, {} operations on {} keys, {} without a reply",
            files(run.files.len()),
            judgement.operations,
            judgement.keys,
            judgement.unknown
        ));
        for path in &run.cut_short {
            lines.push(format!(
                "undecided: {} is cut short; what else its clients did is not known",
                output::one_line(&path.display().to_string())
            ));
        }
        match (judgement.violated, judgement.undecided.as_slice()) {
            (0, []) => lines.push("linearizable: yes, every key".to_owned()),
            (0, keys) => lines.push(format!("linearizable: undecided for {} keys", keys.len())),
            (wrong, _) => lines.push(format!("linearizable: NO, not {wrong} of the keys")),
        }
        for key in judgement.undecided.iter().take(NAMED_MAX) {
            lines.push(format!("  key {}: the search was given up", output::quote(key)));
        }
        for witness in &judgement.witnesses {
            lines.extend(witness.lines());
        }
    }
    if !run.lives.is_empty() {
        lines.push(format!(
            "nodes: {}, {} ballots led, {} slots, {} of them compared",
            files(run.lives.len()),
            nodes.ballots,
            nodes.slots,
            nodes.compared
        ));
        lines.push(match nodes.problems {
            0 => "agreement and order of ballots: yes, as far as the records show".to_owned(),
            problems => format!("agreement and order of ballots: NO, {problems} problems"),
        });
        lines.extend(nodes.examples.iter().map(|example| format!("  {example}")));
    }
    lines
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

fn report(
    run: &Run,
    judgement: &Judgement,
    nodes: &nodes::Verdict,
    overall: Overall,
) -> serde_json::Value {
    json!({
        "verdict": match overall {
            Overall::Well => "well",
            Overall::Violated => "violated",
            Overall::Undecided => "undecided",
        },
        "histories": {
            "files": run.files.len(),
            "cut_short": run.cut_short.len(),
            "operations": judgement.operations,
            "unknown": judgement.unknown,
            "keys": judgement.keys,
            "violated": judgement.violated,
            "undecided": judgement.undecided.len(),
            "witnesses": judgement.witnesses.iter().map(|it| it.lines()).collect::<Vec<_>>(),
        },
        "nodes": {
            "files": run.lives.len(),
            "ballots": nodes.ballots,
            "slots": nodes.slots,
            "compared": nodes.compared,
            "problems": nodes.problems,
            "examples": nodes.examples,
        },
    })
}
