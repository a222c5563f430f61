//! Statements and queries from a seed: valid more often than not.
//!
//! All tables have the columns a to d (some have e, later), so that nothing has to be known of them; what is not there
//! fails, which is to be compared, too.

/// SplitMix64: the same numbers everywhere, for ever.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const TABLES: [&str; 4] = ["t0", "t1", "t2", "t3"];
const COLUMNS: [&str; 4] = ["a", "b", "c", "d"];
const WORDS: [&str; 6] = ["x", "y", "log", "paxos", "10", "LOG"];

pub struct Generator {
    pub random: Random,
    /// Chance and time, too: the same at all replicas, and not what plain SQLite gives.
    is_of_the_log: bool,
    /// With virtual tables a database is opened anew for each command, and all that could be remembered is not.
    has_virtual: bool,
}

impl Generator {
    pub fn new(seed: u64, is_of_the_log: bool) -> Generator {
        Generator { random: Random(seed), is_of_the_log, has_virtual: seed % 2 == 1 }
    }

    /// What there is at first.
    pub fn first(&mut self) -> Vec<String> {
        let mut all: Vec<String> = TABLES.iter().map(|table| self.create(table)).collect();
        if self.has_virtual {
            all.push("CREATE VIRTUAL TABLE f0 USING fts5(a, b)".to_owned());
            all.push("CREATE VIRTUAL TABLE r0 USING rtree(id, x0, x1)".to_owned());
        }
        all
    }

    fn create(&mut self, table: &str) -> String {
        let key =
            self.random.pick(&["a INTEGER PRIMARY KEY", "a INT", "a UNIQUE", "a PRIMARY KEY"]);
        let b =
            self.random.pick(&["TEXT", "TEXT COLLATE NOCASE", "NOT NULL DEFAULT 'b'", "UNIQUE"]);
        let c = match (self.is_of_the_log, self.random.below(3)) {
            (_, 0) => "c REAL",
            (_, 1) => "c INT CHECK (c IS NOT 'paxos')",
            (false, _) => "c NUMERIC DEFAULT 7",
            (true, _) => "c DEFAULT (random())",
        };
        let d = match (self.is_of_the_log, self.random.below(3)) {
            (_, 0) => "d",
            (_, 1) => "d AS (length(b))",
            (false, _) => "d DEFAULT 'd'",
            (true, _) => "d DEFAULT CURRENT_TIMESTAMP",
        };
        let end = match key.ends_with("PRIMARY KEY") && self.random.one_in(3) {
            true => " WITHOUT ROWID",
            false => "",
        };
        format!("CREATE TABLE {table} ({key}, b {b}, {c}, {d}){end}")
    }

    pub fn statement(&mut self) -> String {
        if self.is_of_the_log && self.random.one_in(5) {
            return self.by_chance();
        }
        let (table, other) = (self.random.pick(&TABLES), self.random.pick(&TABLES));
        let column = self.random.pick(&COLUMNS);
        let number = self.random.below(4);
        match self.random.below(44) {
            0 if self.random.one_in(3) => format!("DROP TABLE {table}"),
            0..3 => self.create(table).replace("TABLE", "TABLE IF NOT EXISTS"),
            3 => self.create(table),
            4 => {
                let unique = self.random.pick(&["", "UNIQUE "]);
                format!("CREATE {unique}INDEX i{number} ON {table} ({column}, length(b))")
            }
            5 => {
                let condition = self.expression(1);
                format!("CREATE INDEX i{number} ON {table} ({column} DESC) WHERE {condition}")
            }
            6 => format!("DROP INDEX i{number}"),
            7 => {
                let query = self.query();
                format!("CREATE VIEW v{number} AS {query}")
            }
            8 => format!("DROP VIEW v{number}"),
            9 => {
                let when = self.random.pick(&["AFTER", "BEFORE"]);
                let what = self.random.pick(&["INSERT", "UPDATE", "DELETE"]);
                let row = if what == "DELETE" { "old" } else { "new" };
                let value = self.literal();
                let index = match self.has_virtual {
                    true => format!("INSERT INTO f0 VALUES ({row}.b, '{table}');"),
                    false => String::new(),
                };
                format!(
                    "CREATE TRIGGER g{number} {when} {what} ON {table} WHEN {row}.a IS NOT {value} BEGIN \
                     UPDATE {other} SET c = coalesce(c, 0) + 1 WHERE a = {row}.a; \
                     {index} END"
                )
            }
            10 => format!("DROP TRIGGER g{number}"),
            11 => self
                .random
                .pick(&["ANALYZE", "ANALYZE", "REINDEX", "REINDEX", "DROP TABLE f0"])
                .to_owned(),
            12 => {
                let default = self.literal();
                format!("ALTER TABLE {table} ADD COLUMN e DEFAULT {default}")
            }
            13 => {
                let change = self.random.pick(&["DROP COLUMN e", "RENAME COLUMN e TO ee"]);
                format!("ALTER TABLE {table} {change}")
            }
            14 if self.has_virtual => {
                "CREATE VIRTUAL TABLE IF NOT EXISTS f0 USING fts5(a, b)".to_owned()
            }
            // On plain SQLite a connection has done more than this transaction.
            14..18 if !self.has_virtual => {
                let asked = if self.is_of_the_log { "changes()" } else { "min(b)" };
                format!("SELECT {asked}, max(a) FROM {table}")
            }
            15 => format!("INSERT INTO f0 SELECT b, a FROM {table} LIMIT 9"),
            16 => format!("DELETE FROM f0 WHERE f0 MATCH '{}'", self.random.pick(&WORDS)),
            17 => {
                let what = self.random.pick(&["optimize", "rebuild", "integrity-check", "nothing"]);
                format!("INSERT INTO f0 (f0) VALUES ('{what}')")
            }
            18..21 => format!("DELETE FROM {table} WHERE {}", self.expression(2)),
            21 => format!("DELETE FROM {table} WHERE a > 60"),
            22..27 => {
                let (value, condition) = (self.expression(2), self.expression(2));
                let returning = self.random.pick(&["", "", " RETURNING a, b"]);
                format!("UPDATE {table} SET {column} = {value} WHERE {condition}{returning}")
            }
            27..30 => {
                let expressions: Vec<String> = (0..3).map(|_| self.expression(1)).collect();
                let or = self.random.pick(&["OR IGNORE", "OR REPLACE", ""]);
                format!(
                    "INSERT {or} INTO {table} (a, b, c) SELECT {} FROM {other} LIMIT 20",
                    expressions.join(", ")
                )
            }
            30..34 => {
                let values = self.values();
                let then = self.random.pick(&[
                    "(a) DO UPDATE SET c = excluded.c",
                    "(b) DO UPDATE SET c = coalesce(c, 0) + 1 WHERE c < 50",
                    "DO NOTHING",
                    "(a) DO NOTHING",
                ]);
                format!("INSERT INTO {table} (a, b, c) VALUES {values} ON CONFLICT {then}")
            }
            _ => {
                let values = self.values();
                let or = self.random.pick(&["INSERT", "INSERT OR IGNORE", "REPLACE"]);
                let returning = self.random.pick(&["", "", " RETURNING *"]);
                format!("{or} INTO {table} (a, b, c) VALUES {values}{returning}")
            }
        }
    }

    /// What frees pages and takes them again with other content, and asks for what a connection remembers.
    fn by_chance(&mut self) -> String {
        let table = self.random.pick(&TABLES);
        let size = self.random.pick(&[300, 2000, 9000]);
        let count = 5 + self.random.below(30);
        let rows = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        );
        match self.random.below(if self.has_virtual { 8 } else { 5 }) {
            0 | 1 => format!(
                "{rows} INSERT OR REPLACE INTO {table} (a, b) \
                 SELECT i, randomblob(1 + abs(random() % {size})) FROM n"
            ),
            2 => format!("DELETE FROM {table} WHERE random() % 3"),
            3 => format!(
                "UPDATE OR IGNORE {table} SET b = randomblob(length(b) / 2 + 1) WHERE a % 2"
            ),
            4 => format!("UPDATE OR IGNORE {table} SET c = changes() WHERE a % 3 = 0"),
            5 => format!(
                "{rows} INSERT INTO f0 SELECT hex(randomblob(9)) || ' log', random() FROM n"
            ),
            6 => "DELETE FROM f0 WHERE rowid % 3 = 0".to_owned(),
            _ => format!(
                "{rows} INSERT OR REPLACE INTO r0 SELECT i, x, x + 1 FROM (SELECT i, random() % 99 AS x FROM n)"
            ),
        }
    }

    /// Some rows of three values.
    fn values(&mut self) -> String {
        let count = 1 + self.random.below(6);
        let mut row = || {
            let key = match self.random.below(8) {
                0 => "NULL".to_owned(),
                1 => self.literal(),
                _ => self.random.below(70).to_string(),
            };
            format!("({key}, {}, {})", self.literal(), self.literal())
        };
        let rows: Vec<String> = (0..count).map(|_| row()).collect();
        rows.join(", ")
    }

    pub fn query(&mut self) -> String {
        match self.random.below(9) {
            0 => {
                let (word, other) = (self.random.pick(&WORDS), self.random.pick(&WORDS));
                let operator = self.random.pick(&["OR", "AND", "NOT"]);
                format!("SELECT rowid, a, b FROM f0 WHERE f0 MATCH '{word} {operator} {other}'")
            }
            1 => {
                let (table, other) = (self.random.pick(&TABLES), self.random.pick(&TABLES));
                let operator = self.random.pick(&["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]);
                let (x, y) = (self.expression(2), self.expression(2));
                format!("SELECT a, {x} FROM {table} {operator} SELECT a, {y} FROM {other}")
            }
            2 => {
                let (table, column) = (self.random.pick(&TABLES), self.random.pick(&COLUMNS));
                let function =
                    self.random.pick(&["sum(c)", "rank()", "lag(b)", "count(*)", "ntile(3)"]);
                format!(
                    "SELECT a, {function} OVER (PARTITION BY {column} ORDER BY a, b) FROM {table}"
                )
            }
            3 => {
                let (table, condition) = (self.random.pick(&TABLES), self.expression(2));
                format!(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 12) \
                     SELECT i, count(b), max(c) FROM n LEFT JOIN {table} ON a % 12 = i \
                     WHERE {condition} GROUP BY i"
                )
            }
            4 => {
                let view = self.random.below(4);
                format!("SELECT * FROM v{view} LIMIT 30")
            }
            5 => {
                let (table, column) = (self.random.pick(&TABLES), self.random.pick(&COLUMNS));
                let aggregate =
                    self.random.pick(&["sum(c)", "group_concat(b)", "count(DISTINCT a)", "avg(a)"]);
                let having = self.random.pick(&["", " HAVING count(*) > 1", " HAVING max(a) < 50"]);
                let condition = self.expression(2);
                format!(
                    "SELECT {column}, {aggregate} FROM {table} WHERE {condition} GROUP BY {column}{having}"
                )
            }
            6 => {
                let (table, other) = (self.random.pick(&TABLES), self.random.pick(&TABLES));
                let join = self.random.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let (x, y) = (self.random.pick(&COLUMNS), self.random.pick(&COLUMNS));
                format!(
                    "SELECT x.a, x.b, y.a, y.{y} FROM {table} x {join} {other} y ON x.{x} = y.{y} LIMIT 200"
                )
            }
            _ => {
                let (table, condition) = (self.random.pick(&TABLES), self.expression(3));
                let (x, y) = (self.expression(2), self.expression(2));
                let distinct = self.random.pick(&["", "", "DISTINCT "]);
                let order = self.random.pick(&["", " ORDER BY 2", " ORDER BY c DESC, a LIMIT 7"]);
                format!("SELECT {distinct}{x}, {y}, b FROM {table} WHERE {condition}{order}")
            }
        }
    }

    fn literal(&mut self) -> String {
        match self.random.below(6) {
            0 => "NULL".to_owned(),
            1 => format!("{}.5", self.random.below(20)),
            2 => format!("-{}", self.random.below(9)),
            3 => self.random.below(100).to_string(),
            _ => format!("'{}'", self.random.pick(&WORDS)),
        }
    }

    fn expression(&mut self, depth: u32) -> String {
        if depth == 0 {
            return match self.random.one_in(2) {
                true => self.random.pick(&COLUMNS).to_owned(),
                false => self.literal(),
            };
        }
        let (x, y) = (self.expression(depth - 1), self.expression(depth - 1));
        match self.random.below(if self.is_of_the_log { 15 } else { 12 }) {
            0 => format!("({x} {} {y})", self.random.pick(&["+", "-", "*", "/", "%", "||"])),
            1..4 => {
                format!("({x} {} {y})", self.random.pick(&["<", "=", ">=", "<>", "IS", "IS NOT"]))
            }
            4 => format!("({x} {} {y})", self.random.pick(&["AND", "OR"])),
            5 => format!("(NOT {x})"),
            6 => {
                format!("{}({x})", self.random.pick(&["length", "upper", "typeof", "abs", "quote"]))
            }
            7 => format!("CASE WHEN {x} THEN {y} ELSE a END"),
            8 => format!("coalesce({x}, {y})"),
            9 => format!("({x} IN ({y}, 1, 'x', NULL))"),
            10 => {
                let table = self.random.pick(&TABLES);
                format!(
                    "(SELECT {} FROM {table})",
                    self.random.pick(&["count(*)", "max(a)", "min(b)"])
                )
            }
            11 => format!("(a BETWEEN {x} AND {y})"),
            12 => format!("(random() % 3 = 0 AND {x})"),
            13 => format!("(hex(randomblob(2)) || {x})"),
            _ => "unixepoch('now', 'subsec')".to_owned(),
        }
    }
}
