//! `.save` and `.dump`: the database as a file of SQLite's own, and as statements.
//!
//! Both are of one moment: of a snapshot, which holds all that was acknowledged before.

use std::fs::File;
use std::io::{BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::super::server::snapshot_failure;
use super::super::{Failure, output};
use super::{SqlShell, identifier, quoted};
use crate::snapshot::{self, Loaded};
use crate::sql::{Budget, Moment, Pages, Reader, SqlValue, Statement, View};

/// Nobody waits for this but the person who asked.
const MOMENT: Moment = Moment { time_us: 0, seed: 1 };
const UNLIMITED: Budget = Budget { steps: u64::MAX, until_ns: None, rows_size: usize::MAX };

impl SqlShell<'_> {
    /// Writes the database to a new file.
    pub(super) fn save(&mut self, path: &str) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::usage(format!("cannot write {path}: {error}"));
        let mut file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
        let saved = self.fetch().and_then(|(slot, pages)| {
            pages.iter().try_for_each(|page| file.write_all(page)).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            Ok((slot, pages.iter().map(|page| page.len()).sum::<usize>()))
        });
        let (slot, bytes) = saved.inspect_err(|_| {
            let _ = std::fs::remove_file(Path::new(path));
        })?;
        self.print(&format!("{bytes} bytes, as of slot {slot}\n"))
    }

    /// Prints the statements that make the database, or one table: tables and their rows, then what hangs on them.
    /// Each is a command of its own: a command does not hold as much as a database.
    pub(super) fn dump(&mut self, table: Option<&str>) -> Result<(), Failure> {
        let (_, pages) = self.fetch()?;
        let view = View { pages: &pages, moment: MOMENT, budget: UNLIMITED };
        let mut reader = Reader::default();
        let only = table.map_or_else(String::new, |it| format!("AND s.tbl_name = {}", quoted(it)));
        let tables = ask(
            &mut reader,
            view,
            &format!(
                "SELECT s.name, s.sql FROM sqlite_schema s JOIN pragma_table_list l ON l.name = s.name \
             WHERE s.type = 'table' AND l.type <> 'shadow' \
             AND s.name NOT LIKE 'sqlite!_%' ESCAPE '!' {only} ORDER BY s.rowid"
            ),
        )?;
        for row in &tables {
            let [name, sql] = &row[..] else { continue };
            let name = name.to_string();
            self.print(&format!("{sql};\n"))?;
            let columns = ask(
                &mut reader,
                view,
                &format!("SELECT name FROM pragma_table_info({}) ORDER BY cid", quoted(&name)),
            )?;
            let columns: Vec<String> =
                columns.iter().flatten().map(|it| identifier(&it.to_string())).collect();
            let values: Vec<String> = columns.iter().map(|it| format!("quote({it})")).collect();
            let (table, columns) = (identifier(&name), columns.join(","));
            // As they come: a table may be larger than what a person has of memory twice.
            let mut printed = Ok(());
            let mut print = |row: Vec<SqlValue>| {
                let row: String = row.iter().map(SqlValue::to_string).collect();
                let line = format!("INSERT INTO {table}({columns}) VALUES({row});\n");
                printed = output::print(self.out, &line);
                Ok(if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            };
            let text = format!("SELECT {} FROM {table}", values.join(" || ',' || "));
            let statement = Statement { text: &text, parameters: Vec::new() };
            let done = reader.each(view, &statement, 0, &mut print);
            done.map_err(Failure::refused)?;
            printed?;
        }
        let rest = ask(
            &mut reader,
            view,
            &format!(
                "SELECT s.sql || ';' FROM sqlite_schema s WHERE s.type <> 'table' AND s.sql NOT NULL \
             {only} ORDER BY s.type = 'trigger', s.rowid"
            ),
        )?;
        let rest: String = rest.iter().flatten().map(|sql| format!("{sql}\n")).collect();
        self.print(&rest)
    }

    /// The slot of a new snapshot, and the database in it.
    fn fetch(&mut self) -> Result<(u64, Pages), Failure> {
        let failed = |error| Failure::usage(format!("cannot write a temporary file: {error}"));
        let part = tempfile::tempfile().map_err(failed)?;
        let (_, node) = self.client.fetch_snapshot(&part, &mut |_, _| {})?;
        let loaded = snapshot::load(&mut BufReader::new(&part));
        let Loaded { store, .. } =
            loaded.map_err(|error| snapshot_failure(&error, &format!("{node} sent")))?;
        Ok((store.applied().0, store.database()))
    }
}

fn ask(reader: &mut Reader, view: View<'_>, text: &str) -> Result<Vec<Vec<SqlValue>>, Failure> {
    let statement = Statement { text, parameters: Vec::new() };
    let page = reader.query(view, &statement, 0);
    page.map(|page| page.rows.rows).map_err(Failure::refused)
}
