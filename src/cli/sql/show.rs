//! Rows as text.

use std::fmt::Write;
use std::str::FromStr;

use serde_json::{Map, Number, Value, json};

use crate::sql::{Rows, SqlValue};

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a frame, with the names of the columns.
    Table,
    /// Values with bars between them, as `sqlite3` does by itself.
    List,
    /// With a first line of names, as RFC 4180 has it.
    Csv,
    /// An array of objects.
    Json,
    /// A line for each value.
    Line,
}

const MODES: [(&str, Mode); 5] = [
    ("table", Mode::Table),
    ("list", Mode::List),
    ("csv", Mode::Csv),
    ("json", Mode::Json),
    ("line", Mode::Line),
];

impl Mode {
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let found = MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        found.ok_or_else(|| format!("{text:?} is none of table, list, csv, json, line"))
    }
}

/// The rows in lines; nothing if the statement gives none.
pub fn text(rows: &Rows, mode: Mode) -> String {
    let mut printer = Printer::new(mode);
    printer.part(rows) + &printer.end()
}

/// Makes lines of rows that come part by part.
pub struct Printer {
    mode: Mode,
    /// Rows so far; `None` before the first part, and if there are none to be shown.
    count: Option<u64>,
    /// Of the columns of a table, as the first part needs them.
    widths: Vec<usize>,
}

impl Printer {
    pub fn new(mode: Mode) -> Printer {
        Printer { mode, count: None, widths: Vec::new() }
    }

    /// The next rows.
    pub fn part(&mut self, rows: &Rows) -> String {
        if rows.columns.is_empty() {
            return String::new();
        }
        let is_first = self.count.is_none();
        let before = self.count.unwrap_or(0);
        self.count = Some(before + rows.rows.len() as u64);
        match self.mode {
            Mode::Table => self.table(rows, before == 0),
            Mode::List => list(rows),
            Mode::Csv => csv(rows, is_first),
            Mode::Json => json_rows(rows, before == 0, is_first),
            Mode::Line => line(rows, before == 0),
        }
    }

    /// What stands below the last row.
    pub fn end(&self) -> String {
        match (self.mode, self.count) {
            (Mode::Json, Some(_)) => "]\n".to_owned(),
            (Mode::Table, Some(1..)) => self.rule(),
            _ => String::new(),
        }
    }

    fn rule(&self) -> String {
        let parts = self.widths.iter().map(|width| format!("+{}", "-".repeat(width + 2)));
        parts.collect::<String>() + "+\n"
    }

    fn table(&mut self, rows: &Rows, is_first: bool) -> String {
        if rows.rows.is_empty() {
            return String::new();
        }
        let cell = |value: &SqlValue| value.to_string().replace(['\n', '\t'], " ");
        let cells: Vec<Vec<String>> =
            rows.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        if is_first {
            let width = |column: usize| {
                let values = cells.iter().map(|row| row[column].chars().count());
                values.max().unwrap_or(0).max(rows.columns[column].chars().count())
            };
            self.widths = (0..rows.columns.len()).map(width).collect();
        }
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&self.widths);
            let padded = padded.map(|(cell, width)| format!("| {cell:<width$} "));
            padded.collect::<String>() + "|\n"
        };
        let body: String = cells.iter().map(|row| line(row)).collect();
        if !is_first {
            return body;
        }
        let rule = self.rule();
        format!("{rule}{}{rule}{body}", line(&rows.columns))
    }
}

fn list(rows: &Rows) -> String {
    let line = |row: &Vec<SqlValue>| {
        row.iter().map(SqlValue::to_string).collect::<Vec<_>>().join("|") + "\n"
    };
    rows.rows.iter().map(line).collect()
}

fn csv(rows: &Rows, is_first: bool) -> String {
    let field = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let mut out = String::new();
    if is_first {
        let names: Vec<String> = rows.columns.iter().map(|name| field(name)).collect();
        out = names.join(",") + "\r\n";
    }
    for row in &rows.rows {
        let fields: Vec<String> = row.iter().map(|value| field(&value.to_string())).collect();
        out.push_str(&fields.join(","));
        out.push_str("\r\n");
    }
    out
}

/// Objects with commas between them, behind the bracket that opens.
fn json_rows(rows: &Rows, is_first_row: bool, is_first: bool) -> String {
    let object = |row: &Vec<SqlValue>| {
        let fields = rows.columns.iter().cloned().zip(row.iter().map(json_value));
        Value::Object(fields.collect::<Map<_, _>>()).to_string()
    };
    let objects: Vec<String> = rows.rows.iter().map(object).collect();
    let open = if is_first { "[" } else { "" };
    let comma = if is_first_row || objects.is_empty() { "" } else { ",\n" };
    format!("{open}{comma}{}", objects.join(",\n"))
}

fn json_value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => json!(number),
        SqlValue::Real(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        SqlValue::Text(text) => json!(text),
        SqlValue::Blob(bytes) => json!(bytes.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })),
    }
}

fn line(rows: &Rows, is_first: bool) -> String {
    let width = rows.columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (number, row) in rows.rows.iter().enumerate() {
        if 0 < number || !is_first {
            out.push('\n');
        }
        for (name, value) in rows.columns.iter().zip(row) {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name:>width$} = {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        Rows {
            columns: vec!["a".to_owned(), "name".to_owned()],
            rows: vec![
                vec![SqlValue::Integer(1), text("x, \"y\"")],
                vec![SqlValue::Real(2.0), SqlValue::Null],
                vec![SqlValue::Blob(vec![65, 66]), text("é")],
            ],
            ..Rows::default()
        }
    }

    #[test]
    fn each_mode() {
        let show = |mode| text(&rows(), mode);
        assert_eq!(
            show(Mode::Table),
            "+-----+--------+\n\
             | a   | name   |\n\
             +-----+--------+\n\
             | 1   | x, \"y\" |\n\
             | 2.0 |        |\n\
             | AB  | é      |\n\
             +-----+--------+\n"
        );
        assert_eq!(show(Mode::List), "1|x, \"y\"\n2.0|\nAB|é\n");
        assert_eq!(show(Mode::Csv), "a,name\r\n1,\"x, \"\"y\"\"\"\r\n2.0,\r\nAB,é\r\n");
        assert_eq!(
            show(Mode::Json),
            "[{\"a\":1,\"name\":\"x, \\\"y\\\"\"},\n{\"a\":2.0,\"name\":null},\n\
             {\"a\":\"4142\",\"name\":\"é\"}]\n"
        );
        assert!(show(Mode::Line).starts_with("   a = 1\nname = x, \"y\"\n\n   a = 2.0\n"));
        assert_eq!(text(&Rows::default(), Mode::Json), "");
        // Part by part, it is the same: here each row is as wide.
        let mut parts = [rows(), rows(), Rows { rows: Vec::new(), ..rows() }];
        parts[1].rows.reverse();
        let whole = Rows { rows: [&parts[0].rows[..], &parts[1].rows].concat(), ..rows() };
        for (_, mode) in MODES {
            let mut printer = Printer::new(mode);
            let shown: String = parts.iter().map(|part| printer.part(part)).collect();
            assert_eq!(shown + &printer.end(), text(&whole, mode));
        }
        for (name, mode) in MODES {
            assert_eq!((Mode::from_str(name), mode.name()), (Ok(mode), name));
        }
    }
}
