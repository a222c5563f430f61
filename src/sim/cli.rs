//! The command line of `loggos-sim`.
// What people wait for passes in real time.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use super::batch::{self, Batch, Report};
use super::plan::{FAULTS, Fault, Fixed, Plan};
use super::run::{Outcome, Run};
use super::shrink::shrink;
use crate::cli::manual::{Line, Manual, Typed};

const MANUAL: Manual = Manual(include_str!("manual.txt"));

/// What is asked for, as `manual.txt` explains it.
#[derive(Debug)]
struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    first: String,
    seconds: Option<u64>,
    plan: Option<PathBuf>,
    nodes: Option<usize>,
    clients: Option<usize>,
    keys_only: bool,
    virtual_seconds: Option<u64>,
    steps: Option<u64>,
    faults: Option<String>,
    trace: usize,
    messages: bool,
    silent: bool,
    shrink: bool,
    tries: usize,
    write_plan: Option<PathBuf>,
    threads: Option<usize>,
    mutant: Option<String>,
}

impl Arguments {
    fn read(line: &Line) -> Result<Arguments, String> {
        line.exclude("--seed", "--seeds")?;
        line.exclude("--seed", "--plan")?;
        line.exclude("--silent", "--shrink")?;
        let number = |name: &str| line.value(name, u64::from_str);
        let count = |name: &str| line.value(name, usize::from_str);
        let path = |name: &str| line.bytes(name).map(PathBuf::from);
        Ok(Arguments {
            seed: number("--seed")?,
            seeds: line.needed("--seeds", u64::from_str)?,
            first: line.needed("--first", String::from_str)?,
            seconds: number("--seconds")?,
            plan: path("--plan"),
            nodes: count("--nodes")?,
            clients: count("--clients")?,
            keys_only: line.is_given("--keys-only"),
            virtual_seconds: number("--virtual-seconds")?,
            steps: number("--steps")?,
            faults: line.value("--faults", String::from_str)?,
            trace: line.needed("--trace", usize::from_str)?,
            messages: line.is_given("--messages"),
            silent: line.is_given("--silent"),
            shrink: line.is_given("--shrink"),
            tries: line.needed("--tries", usize::from_str)?,
            write_plan: path("--write-plan"),
            threads: count("--threads")?,
            mutant: line.value("--mutant", String::from_str)?,
        })
    }
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;

pub fn main() -> ExitCode {
    let typed = MANUAL.parse("loggos-sim", std::env::args_os().skip(1).collect());
    let outcome = typed.and_then(|typed| match typed {
        Typed::Line(line) => run(&Arguments::read(&line)?),
        Typed::Asked(text) => {
            print!("{text}");
            Ok(true)
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(why) => {
            eprintln!("loggos-sim: {why}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether all was well.
fn run(arguments: &Arguments) -> Result<bool, String> {
    #[cfg(feature = "mutants")]
    if let Some(name) = &arguments.mutant {
        if name == "list" {
            for mutant in crate::mutants::ALL {
                println!("{:<34} {}", mutant.name(), mutant.what());
            }
            return Ok(true);
        }
        let mutant = crate::mutants::Mutant::by_name(name)
            .ok_or_else(|| format!("no mutant {name:?}; see --mutant list"))?;
        crate::mutants::switch_on(Some(mutant));
    }
    if cfg!(not(feature = "mutants")) && arguments.mutant.is_some() {
        return Err("--mutant needs the feature `mutants`".to_owned());
    }
    let fixed = fixed(arguments)?;
    batch::quiet_panics();
    if let Some(path) = &arguments.plan {
        return one(read_plan(path)?, arguments);
    }
    if let Some(seed) = arguments.seed {
        return one(Plan::draw(seed, &fixed), arguments);
    }
    many(arguments, fixed)
}

fn fixed(arguments: &Arguments) -> Result<Fixed, String> {
    if arguments.nodes == Some(0) || arguments.clients == Some(0) {
        return Err("a cluster has at least one node and one client".into());
    }
    let fault = |name: &str| {
        let known = FAULTS.into_iter().find(|fault| format!("{fault:?}") == name);
        known.ok_or_else(|| format!("no fault {name:?}; there are {FAULTS:?}"))
    };
    let faults: Option<Vec<Fault>> = match arguments.faults.as_deref() {
        None => None,
        Some("none") => Some(Vec::new()),
        Some(names) => Some(names.split(',').map(fault).collect::<Result<_, String>>()?),
    };
    Ok(Fixed {
        nodes: arguments.nodes,
        clients: arguments.clients,
        keys_only: arguments.keys_only,
        duration_us: arguments.virtual_seconds.map(|seconds| seconds * 1_000_000),
        steps_max: arguments.steps,
        faults,
    })
}

fn read_plan(path: &PathBuf) -> Result<Plan, String> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| format!("cannot read the plan {}: {error}", path.display()))?;
    let plan: Plan = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no plan: {error}", path.display()))?;
    plan.check().map_err(|why| format!("the plan {} cannot be played: {why}", path.display()))?;
    Ok(plan)
}

// One run.

fn one(plan: Plan, arguments: &Arguments) -> Result<bool, String> {
    if arguments.silent {
        return Ok(batch::play(plan).is_ok());
    }
    let (plan, well) = match (arguments.shrink, fails(&plan, arguments)?) {
        (true, true) => (smaller(plan, arguments)?, false),
        (_, failed) => (plan, !failed),
    };
    if let Some(path) = &arguments.write_plan {
        let text = serde_json::to_string_pretty(&plan).expect("a plan is plain data") + "\n";
        fs::write(path, text)
            .map_err(|error| format!("cannot write the plan to {}: {error}", path.display()))?;
    }
    tell(plan, arguments);
    Ok(well)
}

/// Whether a plan fails, played in a process of its own: so it may abort, or never end.
fn fails(plan: &Plan, arguments: &Arguments) -> Result<bool, String> {
    if cfg!(panic = "unwind") {
        return Ok(batch::play(plan.clone()).is_err());
    }
    let cannot = |error: std::io::Error| format!("cannot start myself: {error}");
    let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
        .args(["--plan", "-", "--silent"])
        .args(mutant_of(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let text = serde_json::to_string(plan).expect("a plan is plain data");
    // A child that has died does not read to the end.
    let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
    Ok(!child.wait().map_err(cannot)?.success())
}

fn mutant_of(arguments: &Arguments) -> Vec<String> {
    arguments.mutant.iter().flat_map(|name| ["--mutant".to_owned(), name.clone()]).collect()
}

fn smaller(plan: Plan, arguments: &Arguments) -> Result<Plan, String> {
    let mut wrong = None;
    let begun = Instant::now();
    let small = shrink(
        plan,
        arguments.tries,
        &mut |plan| {
            fails(plan, arguments).unwrap_or_else(|why| {
                wrong = Some(why);
                false
            })
        },
        &mut |plan, tried| {
            eprintln!(
                "shrinking, {tried} tried: {} nodes, {} faults, {} clients, {:.1} s",
                plan.settings.roles.len(),
                plan.faults.len(),
                plan.load.clients,
                plan.duration_us as f64 / 1e6
            );
        },
    );
    eprintln!("shrinking took {:.1} s", begun.elapsed().as_secs_f64());
    wrong.map_or(Ok(small), Err)
}

/// Plays a plan with its trace and prints plan, trace and outcome.
fn tell(plan: Plan, arguments: &Arguments) {
    describe(&plan);
    let mut run = Run::new(plan, arguments.trace, arguments.messages);
    // Where a panic aborts, the trace has to be out before.
    let result = catch_unwind(AssertUnwindSafe(|| run.go()));
    for line in &run.cluster.trace.lines {
        println!("{line}");
    }
    match result {
        Ok(outcome) => println!("well: {}", line_of(&outcome)),
        Err(panic) => println!("FAILED: {}", batch::text_of(&*panic)),
    }
}

fn describe(plan: &Plan) {
    let settings = &plan.settings;
    let roles: Vec<String> = settings.roles.iter().map(|roles| roles.to_string()).collect();
    println!("nodes      {}", roles.join(", "));
    println!("quorums    phase 1 {:?}, phase 2 {:?}", settings.phase1, settings.phase2);
    println!(
        "times      election timeout {} ms, delay {:?} us, sync {:?} us, drift {} ppm",
        settings.election_timeout_us / 1000,
        settings.delay_us,
        settings.sync_us,
        settings.drift_ppm_max
    );
    println!("load       {:?}", plan.load);
    println!("duration   {:.3} s, hub {}", plan.duration_us as f64 / 1e6, plan.hub);
    if plan.faults.len() <= 20 {
        for fault in &plan.faults {
            let (at, length) = (fault.at_us as f64 / 1e3, fault.for_us as f64 / 1e3);
            println!("{at:9.3} ms  {:?} for {length:.3} ms", fault.fault);
        }
    } else {
        println!("faults     {}", plan.faults.len());
    }
}

fn line_of(outcome: &Outcome) -> String {
    format!(
        "{:.1} virtual s, {} operations, {} commands acknowledged, {} slots chosen; \
         all well again after {:.1} election timeouts",
        outcome.virtual_us as f64 / 1e6,
        outcome.operations,
        outcome.acked,
        outcome.chosen,
        outcome.recovery
    )
}

// Many runs.

fn many(arguments: &Arguments, fixed: Fixed) -> Result<bool, String> {
    let first = match arguments.first.as_str() {
        "fresh" => {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            // Far above the seeds that people give by hand.
            since.map_err(|_| "the clock stands before 1970")?.as_secs() << 20
        }
        number => number.parse().map_err(|_| format!("{number:?} is no seed"))?,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let batch = Batch {
        first,
        seeds: arguments.seeds,
        threads: arguments.threads.unwrap_or(cores).max(1),
        fixed,
        time_max: arguments.seconds.map(Duration::from_secs),
        failures_max: 10,
    };
    println!("seeds from {first}, {} threads", batch.threads);
    let mut progress = Progress::new(arguments.seeds, batch.time_max);
    let mut told = 0;
    let report = batch.run(&mut |report| {
        for (seed, what) in &report.failed[told..] {
            progress.clear();
            eprintln!("seed {seed} failed: {}", first_line(what));
        }
        told = report.failed.len();
        progress.tell(report);
    });
    progress.clear();
    summarize(&report);
    Ok(report.failed.is_empty() && 0 < report.seeds)
}

fn first_line(what: &str) -> String {
    what.lines().next().unwrap_or("").chars().take(60).collect()
}

struct Progress {
    seeds: u64,
    time_max: Option<Duration>,
    is_terminal: bool,
    told: Instant,
}

impl Progress {
    fn new(seeds: u64, time_max: Option<Duration>) -> Progress {
        Progress {
            seeds,
            time_max,
            is_terminal: std::io::stderr().is_terminal(),
            told: Instant::now(),
        }
    }

    fn tell(&mut self, report: &Report) {
        let pause = Duration::from_millis(if self.is_terminal { 500 } else { 20_000 });
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let real = report.real.as_secs_f64();
        let of = match self.time_max {
            Some(time_max) => format!("{real:.0} of {} s", time_max.as_secs()),
            None => format!("{real:.0} s"),
        };
        let line = format!(
            "{} of {} seeds, {} failed, {of}, {:.1} seeds/s",
            report.seeds,
            self.seeds,
            report.failed.len(),
            report.seeds as f64 / real
        );
        if self.is_terminal {
            eprint!("\r{line:<78}");
        } else {
            eprintln!("{line}");
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r{:78}\r", "");
        }
    }
}

fn summarize(report: &Report) {
    let (real, virt) = (report.real.as_secs_f64(), report.virtual_us as f64 / 1e6);
    println!(
        "{} seeds in {real:.1} s ({:.1} a second); {:.0} virtual s, {:.0} times real time",
        report.seeds,
        report.seeds as f64 / real,
        virt,
        virt / real
    );
    println!(
        "{} operations, {} commands acknowledged, {} slots chosen, {} happenings",
        report.operations, report.acked, report.chosen, report.happenings
    );
    println!("\nplaces reached");
    for pair in report.coverage.counts().chunks(2) {
        let cell = |(name, count): &(&str, u64)| format!("  {name:<22}{count:>12}");
        let cells: Vec<String> = pair.iter().map(cell).collect();
        println!("{}", cells.join("   "));
    }
    println!("\nelection timeouts                 median     95%     99%   99.9%    most  in seed");
    distribution("all well again after the faults", &report.recoveries);
    distribution("only a hub reaches a quorum", &report.hubs);
    for (seed, what) in &report.failed {
        println!("\nFAILED seed {seed}: {}", first_line(what));
    }
    if let Some((seed, _)) = report.failed.first() {
        println!("\nplay it again: loggos-sim --seed {seed} --shrink");
    }
}

fn distribution(name: &str, sorted: &[(f64, u64)]) {
    if sorted.is_empty() {
        return;
    }
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize].0;
    println!(
        "  {name:<32}{:>6.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1}  {}",
        at(0.5),
        at(0.95),
        at(0.99),
        at(0.999),
        at(1.0),
        sorted[sorted.len() - 1].1
    );
}
