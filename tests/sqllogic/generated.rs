//! Statements and queries from seeds: the same answers on plain SQLite and through a cluster, and the same pages on a
//! replica that runs all along and on one that starts from a snapshot again and again.
//!
//! `LOGGOS_SQL_SEED=7` plays that seed, `LOGGOS_SQL_SEEDS=1000` so many.

use loggos::sql::pages::PAGE_SIZE;
use loggos::sql::{Budget, Database, Moment, Pages, Reader, Rows, SqlValue, Statement, View};

use super::generator::Generator;
use super::sides::{Clustered, Plain, Side};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The seeds to play: so many from the first one on, if nothing else is wanted.
fn seeds(many: u64) -> std::ops::Range<u64> {
    match number("LOGGOS_SQL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("LOGGOS_SQL_SEEDS").unwrap_or(many),
    }
}

/// How many did something, and how many failed: neither may be rare, or little is compared.
#[derive(Default)]
struct Count {
    done: u64,
    failed: u64,
}

impl Count {
    fn note<T, E>(&mut self, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.done += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn assert_mixed(&self, what: &str) {
        let Count { done, failed } = self;
        assert!(failed < done && done / 20 < *failed, "{what}: {done} done, {failed} failed");
    }
}

#[test]
fn generated_statements_give_the_same_through_a_cluster() {
    const STATEMENTS: u64 = 150;
    const QUERIES: u64 = 3;
    let (mut statements, mut queries, mut rows) = (Count::default(), Count::default(), 0);
    for seed in seeds(3) {
        let mut generator = Generator::new(seed, false);
        let (mut plain, mut cluster) = (Plain::new(), Clustered::new());
        let first = generator.first();
        assert_eq!(cluster.run(&first), plain.run(&first), "seed {seed}");
        for _ in 0..STATEMENTS {
            let count = generator.random.pick(&[1, 1, 1, 2, 3]);
            let batch: Vec<String> = (0..count).map(|_| generator.statement()).collect();
            let expected = plain.run(&batch);
            assert_eq!(cluster.run(&batch), expected, "seed {seed}: {batch:?}");
            statements.note(&expected);
            for _ in 0..QUERIES {
                let query = generator.query();
                let expected = plain.ask(&query);
                assert_eq!(cluster.ask(&query), expected, "seed {seed}: {query}");
                queries.note(&expected);
                rows += expected.map_or(0, |given| given.rows.len());
            }
        }
        cluster.cluster.assert_agreement();
    }
    statements.assert_mixed("statements");
    queries.assert_mixed("queries");
    assert!(queries.done < rows as u64, "{rows} rows");
}

/// One that has only the bytes of the pages, as a snapshot has them.
fn restored(pages: &Pages) -> Database {
    let mut again = Pages::default();
    for (index, bytes) in pages.iter().enumerate() {
        again.write(index * PAGE_SIZE, bytes);
    }
    again.settle();
    assert_eq!(again.digest(), pages.digest());
    Database::new(again)
}

/// Carries out statements as one command: what they gave, or which of them failed and why.
fn apply(
    database: &mut Database,
    moment: Moment,
    texts: &[String],
    is_taken_back: bool,
) -> Result<Vec<Rows>, (usize, String)> {
    database.begin(moment);
    let mut all = Vec::new();
    for (step, text) in texts.iter().enumerate() {
        match database.run(&Statement { text, parameters: vec![] }) {
            Ok(rows) => all.push(rows),
            Err(why) => {
                database.roll_back();
                database.settle();
                return Err((step, why));
            }
        }
    }
    let done = match is_taken_back {
        // As if a step on a key had failed behind them.
        true => {
            database.roll_back();
            Ok(())
        }
        false => database.commit().map_err(|why| (texts.len(), why)),
    };
    database.settle();
    done.map(|()| all)
}

#[test]
fn replicas_agree_wherever_one_starts_from_a_snapshot() {
    const COMMANDS: u64 = 250;
    let mut commands = Count::default();
    for seed in seeds(20) {
        let mut generator = Generator::new(seed, true);
        let (mut one, mut other) = (Database::default(), Database::default());
        for number in 0..COMMANDS {
            let moment = Moment { time_us: 1_700_000_000_000_000 + number * 999_983, seed: number };
            if generator.random.one_in(8) {
                other = restored(&other.pages());
            }
            let count = generator.random.pick(&[1, 1, 1, 2, 3]);
            let texts: Vec<String> = match number {
                0 => generator.first(),
                _ => (0..count).map(|_| generator.statement()).collect(),
            };
            let is_taken_back = 0 < number && generator.random.one_in(10);
            let before = one.digest();
            let expected = apply(&mut one, moment, &texts, is_taken_back);
            let told = format!("seed {seed}, command {number}: {texts:?}");
            assert_eq!(apply(&mut other, moment, &texts, is_taken_back), expected, "{told}");
            assert_eq!(other.digest(), one.digest(), "{told}: {expected:?}");
            if is_taken_back || expected.is_err() {
                assert_eq!(one.digest(), before, "{told}: {expected:?}");
            }
            commands.note(&expected);
        }
        let budget = Budget { steps: u64::MAX, until_ns: None, rows_size: 1 << 20 };
        let check = Statement { text: "PRAGMA integrity_check", parameters: vec![] };
        let moment = Moment { time_us: 0, seed };
        let pages = one.pages();
        let whole = Reader::default().query(View { pages: &pages, moment, budget }, &check, 0);
        assert_eq!(whole.unwrap().rows.rows, [[SqlValue::Text("ok".to_owned())]], "seed {seed}");
    }
    commands.assert_mixed("commands");
}
