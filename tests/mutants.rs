//! Does the simulator bite? Each deliberate defect (`loggos::mutants`) must be found within a stated
//! number of seeds. `--nocapture` prints the table of docs/testing.md.

use std::thread::available_parallelism;

use loggos::mutants::{self, Mutant};
use loggos::sim::batch::{Batch, Report, quiet_panics};
use loggos::sim::plan::{Fault, Fixed};

/// Seeds within which each is found, several times what was needed when this was written: which seed
/// finds what depends on the dice, and so changes with the core and the simulator.
const SEEDS_MAX: u64 = 2000;

/// Mutants that harm only where logs are cut off again and again or damaged where values compete, where votes are late, or
/// where many have led, are looked for among such runs.
fn faults(mutant: Mutant) -> Option<Vec<Fault>> {
    match mutant {
        Mutant::KeepTornTail | Mutant::RecoverWithoutSync => {
            Some(vec![Fault::PowerLoss, Fault::PowerLossAll, Fault::Crash, Fault::SlowDisk])
        }
        Mutant::VotesToldUnderLease => Some(vec![Fault::SlowDisk, Fault::SlowLink]),
        Mutant::TellBelowDamage | Mutant::TruncateOverDamage => {
            Some(vec![Fault::Split, Fault::Split, Fault::Damage])
        }
        Mutant::VotesToldInSecret => {
            Some(vec![Fault::SlowDisk, Fault::Reset, Fault::Reset, Fault::Reset])
        }
        Mutant::CountForeignVotes => Some(vec![Fault::Rival, Fault::HandOver, Fault::Split]),
        _ => None,
    }
}

/// Where the number of nodes does something for it: each of few loses its power again and again; of some more a
/// quorum can be made up that is none.
fn nodes(mutant: Mutant) -> Option<usize> {
    match mutant {
        Mutant::RecoverWithoutSync => Some(3),
        Mutant::CountForeignVotes => Some(5),
        _ => None,
    }
}

/// Where a wrong reply must meet the one key that tells of it: none of the load goes elsewhere.
fn keys_only(mutant: Mutant) -> bool {
    mutant == Mutant::VotesToldInSecret
}

fn run(seeds: u64, fixed: Fixed) -> Report {
    let batch = Batch {
        first: 1,
        seeds,
        threads: available_parallelism().map_or(1, usize::from),
        fixed,
        time_max: None,
        failures_max: 1,
    };
    batch.run(&mut |_| ())
}

#[test]
fn every_mutant_is_found() {
    quiet_panics();
    let mut missed = Vec::new();
    println!("| mutant | defect | found by seed | as |\n| :--- | :--- | ---: | :--- |");
    for &mutant in mutants::ALL {
        mutants::switch_on(Some(mutant));
        let fixed = Fixed {
            faults: faults(mutant),
            nodes: nodes(mutant),
            keys_only: keys_only(mutant),
            ..Fixed::default()
        };
        let report = run(SEEDS_MAX, fixed);
        let (name, what) = (mutant.name(), mutant.what());
        match report.failed.first() {
            Some((seed, how)) => {
                let how: String = how.lines().next().unwrap_or("").chars().take(70).collect();
                println!("| `{name}` | {what} | {seed} | {how} |");
            }
            None => {
                println!("| `{name}` | {what} | not by {} | |", report.seeds);
                missed.push(mutant);
            }
        }
    }
    mutants::switch_on(None);
    assert_eq!(missed, []);
    // And without any, the same seeds are well.
    assert_eq!(run(20, Fixed::default()).failed, []);
}
