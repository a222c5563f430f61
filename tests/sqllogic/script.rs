//! Scripts in the format of sqllogictest, as far as it is needed here, with rows as lines (tabs between values).
//!
//! ```text
//! # A comment. Records are separated by empty lines.
//! statement ok                  Statements with semicolons between them, if there are several, are one transaction.
//! CREATE TABLE t (a, b)
//!
//! statement count 2             The last one changes so many rows.
//! UPDATE t SET a = 1
//!
//! statement error               It fails, with this message.
//! INSERT INTO t VALUES (1)
//! ----
//! table t has 2 columns but 1 values were supplied
//!
//! query IT rowsort              A letter for each column: I, R and T hold integers, reals and texts, or NULL; B blobs,
//! SELECT a, b FROM t            and X anything. `rowsort`: the lines are sorted, `nosort`: not.
//! ----
//! 1<tab>NULL
//! ```
//!
//! An empty text is `(empty)`, a blob `x'00ff'`; reals are exact, which they are not in other dialects of the format.

use loggos::sql::SqlValue;
use loggos::sql::text::{first_statement, first_words, is_blank};

use super::sides::{Given, Side};

pub struct Script {
    pub records: Vec<Record>,
}

pub struct Record {
    /// What stands above it.
    comment: String,
    pub line: usize,
    pub text: String,
    is_sorted: bool,
    is_query: bool,
    pub expected: Expected,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Ok,
    Count(u64),
    Error(String),
    Rows { types: String, lines: Vec<String> },
}

impl Script {
    pub fn read(text: &str) -> Result<Script, String> {
        let mut records = Vec::new();
        let mut lines = text.lines().enumerate().peekable();
        let mut comment = String::new();
        while let Some((number, head)) = lines.next() {
            if head.is_empty() || head.starts_with('#') {
                comment.push_str(head);
                comment.push('\n');
                continue;
            }
            let mut rest = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
                rest.push(line);
            }
            let split = rest.iter().position(|line| *line == "----").unwrap_or(rest.len());
            let results: Vec<String> =
                rest.iter().skip(split + 1).map(|line| (*line).to_owned()).collect();
            let words: Vec<&str> = head.split_whitespace().collect();
            let failed = |why: &str| Err(format!("line {}: {why}: {head}", number + 1));
            let expected = match words[..] {
                ["statement", "ok"] => Expected::Ok,
                ["statement", "count", count] => match count.parse() {
                    Ok(count) => Expected::Count(count),
                    Err(_) => return failed("no count"),
                },
                ["statement", "error"] => Expected::Error(results.join("\n")),
                ["query", types] | ["query", types, "nosort" | "rowsort"] => {
                    Expected::Rows { types: types.to_owned(), lines: results }
                }
                _ => return failed("not understood"),
            };
            records.push(Record {
                comment: std::mem::take(&mut comment),
                line: number + 1,
                text: rest[..split].join("\n"),
                is_sorted: words.last() == Some(&"rowsort"),
                is_query: words[0] == "query",
                expected,
            });
        }
        Ok(Script { records })
    }

    pub fn write(&self) -> String {
        let record = |record: &Record| {
            let Record { comment, text, .. } = record;
            let sort = if record.is_sorted { " rowsort" } else { "" };
            let (head, results) = match &record.expected {
                Expected::Ok => ("statement ok".to_owned(), None),
                Expected::Count(count) => (format!("statement count {count}"), None),
                Expected::Error(why) => ("statement error".to_owned(), Some(vec![why.clone()])),
                Expected::Rows { types, lines } => {
                    (format!("query {types}{sort}"), Some(lines.clone()))
                }
            };
            let results = results.map_or_else(String::new, |lines| {
                let lines = lines.iter().map(|line| format!("{line}\n"));
                format!("----\n{}", lines.collect::<String>())
            });
            format!("{comment}{head}\n{text}\n{results}")
        };
        self.records.iter().map(record).collect()
    }
}

impl Record {
    /// What a side gives for it, told as scripts tell it.
    pub fn of(&self, side: &mut dyn Side) -> Expected {
        let given = match is_read(&self.text) && self.is_query {
            true => side.ask(&self.text),
            false => side.run(&statements(&self.text)),
        };
        match (given, &self.expected) {
            (Err(why), _) => Expected::Error(why),
            (Ok(Given { rows, .. }), _) if self.is_query => {
                let mut lines: Vec<String> = rows.iter().map(|row| line(row)).collect();
                if self.is_sorted {
                    lines.sort();
                }
                Expected::Rows { types: types(&rows), lines }
            }
            (Ok(given), Expected::Count(_)) => Expected::Count(given.changes),
            (Ok(_), _) => Expected::Ok,
        }
    }
}

fn is_read(text: &str) -> bool {
    let first = first_words(text, 1);
    !["INSERT", "UPDATE", "DELETE", "REPLACE"].contains(&first[0].as_str())
}

/// The statements of a record; one that does not end is a statement, too.
fn statements(text: &str) -> Vec<String> {
    let mut rest = text.to_owned();
    let mut statements = Vec::new();
    while !is_blank(&rest) {
        let size = first_statement(&rest).unwrap_or(rest.len());
        statements.push(rest.drain(..size).collect::<String>().trim().to_owned());
    }
    statements
}

/// The letter of each column; X for one without any value.
fn types(rows: &[Vec<SqlValue>]) -> String {
    let letter = |value: &SqlValue| match value {
        SqlValue::Null => None,
        SqlValue::Integer(_) => Some('I'),
        SqlValue::Real(_) => Some('R'),
        SqlValue::Text(_) => Some('T'),
        SqlValue::Blob(_) => Some('B'),
    };
    let column = |index: usize| {
        let mut letters = rows.iter().filter_map(|row| letter(&row[index]));
        match letters.next() {
            Some(first) if letters.all(|it| it == first) => first,
            _ => 'X',
        }
    };
    match rows.first() {
        Some(row) => (0..row.len()).map(column).collect(),
        None => "X".to_owned(),
    }
}

fn line(row: &[SqlValue]) -> String {
    let value = |value: &SqlValue| match value {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Text(text) if text.is_empty() => "(empty)".to_owned(),
        SqlValue::Text(text) => text.replace(['\n', '\t'], "@"),
        SqlValue::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}'")
        }
        other => other.to_string(),
    };
    row.iter().map(value).collect::<Vec<_>>().join("\t")
}
