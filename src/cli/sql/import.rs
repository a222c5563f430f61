//! `.import`: a file of comma-separated values (RFC 4180) becomes rows of a table.

use std::fs;

use super::super::Failure;
use super::{SqlShell, identifier, quoted};
use crate::limits::BATCH_SIZE_SOFT_MAX;
use crate::sql::{SqlValue, Statement};

/// Rows that are one command.
const ROWS_A_COMMAND: usize = 500;
/// Bytes of their values, at most; one row may overshoot it.
const SIZE_A_COMMAND: usize = BATCH_SIZE_SOFT_MAX / 2;

impl SqlShell<'_> {
    /// Inserts the rows of a file, many in each command. A table that does not exist is made, with the names in the
    /// first line; for one that does, `skip` lines are left out.
    pub(super) fn import(&mut self, path: &str, table: &str, skip: usize) -> Result<(), Failure> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))?;
        let failed = |why: String| Failure::usage(format!("{path}: {why}"));
        let mut records = Records { rest: &text, line: 1 };
        let name = identifier(table);
        let known = format!("SELECT count(*) FROM pragma_table_info({})", quoted(table));
        let columns = self.ask(&known)?.map_err(Failure::refused)?;
        let mut width = match columns.rows.first().and_then(|row| row.first()) {
            Some(SqlValue::Integer(count)) => *count as usize,
            _ => 0,
        };
        if width == 0 {
            let Some((_, names)) = records.next().transpose().map_err(failed)? else {
                return Err(failed("there is nothing in it".to_owned()));
            };
            width = names.len();
            let columns: Vec<String> = names.iter().map(|name| identifier(name)).collect();
            self.command(&[format!("CREATE TABLE {name} ({})", columns.join(", "))])?;
        }
        let marks = vec!["?"; width].join(", ");
        let insert = format!("INSERT INTO {name} VALUES ({marks})");
        let (mut rows, mut size, mut done) = (Vec::new(), 0, 0);
        for record in records.skip(skip) {
            let (line, fields) = record.map_err(failed)?;
            if fields.len() != width {
                let found = fields.len();
                return Err(failed(format!(
                    "line {line} has {found} fields, and the table {width} columns; {done} rows are in"
                )));
            }
            size += fields.iter().map(String::len).sum::<usize>();
            rows.push(fields);
            if ROWS_A_COMMAND <= rows.len() || SIZE_A_COMMAND <= size {
                done += self.insert(&insert, std::mem::take(&mut rows), done)?;
                size = 0;
            }
        }
        done += self.insert(&insert, rows, done)?;
        self.print(&format!("{done} rows\n"))
    }

    fn insert(
        &mut self,
        text: &str,
        rows: Vec<Vec<String>>,
        done: usize,
    ) -> Result<usize, Failure> {
        let count = rows.len();
        let statements = rows.into_iter().map(|fields| {
            let parameters = fields.into_iter().map(SqlValue::Text).collect();
            Statement { text, parameters }
        });
        match self.execute(statements.collect())? {
            Ok(_) => Ok(count),
            Err((step, why)) => Err(Failure::refused(format!(
                "row {}: {why}; {done} rows before it are in",
                done + step + 1
            ))),
        }
    }
}

/// The records of a file, with the line in which each begins.
struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Vec<String>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let begun = self.line;
        let mut fields = Vec::new();
        loop {
            let field = match self.rest.strip_prefix('"') {
                Some(quoted) => match self.quoted(quoted) {
                    Some(field) => field,
                    None => {
                        self.rest = "";
                        return Some(Err(format!("the quote in line {begun} has no end")));
                    }
                },
                None => {
                    let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
                    let (field, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    match rest.starts_with(',') {
                        true => field,
                        false => field.strip_suffix('\r').unwrap_or(field),
                    }
                    .to_owned()
                }
            };
            fields.push(field);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            let rest = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            if !rest.is_empty() && !rest.starts_with('\n') {
                self.rest = "";
                return Some(Err(format!("line {} goes on behind a quote", self.line)));
            }
            self.rest = rest.strip_prefix('\n').unwrap_or(rest);
            self.line += 1;
            return Some(Ok((begun, fields)));
        }
    }
}

impl Records<'_> {
    /// The field behind an opening quote; quotes in it are doubled.
    fn quoted(&mut self, text: &str) -> Option<String> {
        let mut field = String::new();
        let mut at = 0;
        loop {
            let end = at + text[at..].find('"')?;
            field.push_str(&text[at..end]);
            if !text[end + 1..].starts_with('"') {
                self.line += text[..end].matches('\n').count();
                // What follows is a part of what was left.
                self.rest = &self.rest[1 + end + 1..];
                return Some(field);
            }
            field.push('"');
            at = end + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
        Records { rest: text, line: 1 }.collect()
    }

    #[test]
    fn records_as_the_rfc_has_them() {
        let text = "a,\"b \"\"c\"\"\",\r\n\"two\nlines\",,x\nlast";
        let expected: [(usize, &[&str]); 3] =
            [(1, &["a", "b \"c\"", ""]), (2, &["two\nlines", "", "x"]), (4, &["last"])];
        let found = read(text).unwrap();
        let found: Vec<(usize, Vec<&str>)> = found
            .iter()
            .map(|(line, fields)| (*line, fields.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(found, expected.map(|(line, fields)| (line, fields.to_vec())));
        assert_eq!(read("a\n\"b").unwrap_err(), "the quote in line 2 has no end");
        assert_eq!(read("\"a\"b").unwrap_err(), "line 1 goes on behind a quote");
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
