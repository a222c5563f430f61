//! The commands of the SQL shell that begin with a dot, named as those of `sqlite3`.

use std::str::FromStr;

use super::super::{Failure, words};
use super::{Mode, Next, SqlShell, quoted};

const HELP: &str = "\
.dump [TABLE]         The statements that make the database, or a table
.exit                 Leave (also .quit, and the end of the input)
.help                 This list
.import FILE TABLE    Insert the rows of a CSV file; a table that is not there is
                      made, with the names in its first line (--skip N before FILE
                      leaves out N lines)
.indexes [TABLE]      Names of indices
.mode [MODE]          How rows are shown: table, list, csv, json, line
.save FILE            Copy the database to a new file, for sqlite3
.schema [NAME]        The statements that made a table, or all
.tables               Names of tables and views
.timer on|off         Whether each statement's time is told
BEGIN; …; COMMIT;     Statements that happen as a whole or not at all
";

impl SqlShell<'_> {
    pub(super) fn dot(&mut self, line: &str) -> Result<Next, Failure> {
        let words = words::split(line).map_err(Failure::usage)?;
        let words: Vec<String> =
            words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [".exit" | ".quit"] => return Ok(Next::Leave),
            [".help"] => self.print(HELP)?,
            [".mode"] => self.print(&format!("{}\n", self.mode.name()))?,
            [".mode", name] => self.mode = Mode::from_str(name).map_err(Failure::usage)?,
            [".import", path, table] => self.import(path, table, 0)?,
            [".import", "--skip", lines, path, table] => {
                let lines = lines.parse().map_err(|_| {
                    Failure::usage(format!("--skip takes a number of lines, not {lines:?}"))
                })?;
                self.import(path, table, lines)?;
            }
            [".dump"] => self.dump(None)?,
            [".dump", table] => self.dump(Some(table))?,
            [".save", path] => self.save(path)?,
            [".timer", "on"] => self.is_timed = true,
            [".timer", "off"] => self.is_timed = false,
            [".tables"] => self.list(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
                 AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name",
            )?,
            [".indexes"] => self.list(
                "SELECT name FROM sqlite_schema WHERE type = 'index' \
                 AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name",
            )?,
            [".indexes", table] => self.list(&format!(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = {} \
                 AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name",
                quoted(table)
            ))?,
            [".schema"] => self.list(
                "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid",
            )?,
            [".schema", name] => self.list(&format!(
                "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL \
                 AND lower(tbl_name) = lower({}) ORDER BY rowid",
                quoted(name)
            ))?,
            _ => {
                let message = format!("there is no such command as {line:?}; try `.help`");
                return Err(Failure::usage(message));
            }
        }
        Ok(Next::GoOn)
    }

    /// Prints the only column of a query, line by line.
    fn list(&mut self, text: &str) -> Result<(), Failure> {
        let rows = self.ask(text)?.map_err(Failure::refused)?;
        let lines: String = rows.rows.iter().flatten().map(|value| format!("{value}\n")).collect();
        self.print(&lines)
    }
}
