//! A database as part of the replicated state, and readers of it as it was at some slot.
//!
//! Invariant: what a command does depends on the pages before it, its moment and its text, and on nothing else, so
//! that every replica gets the same pages, whether it has run for a month or has just started. For that
//! - each command is prepared anew, and begins with nothing of the database in SQLite's cache;
//! - when what SQLite keeps beside the cache may have changed (the schema, statistics, what virtual tables
//!   remember), the database is opened anew;
//! - time and chance come with the command, and what else would differ is refused (`rules`);
//! - limits count instructions and bytes, never time.

use std::ops::ControlFlow;

use rusqlite::functions::FunctionFlags;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, ToSql, config::DbConfig, ffi};

use crate::limits::{
    SQL_PAGES_MAX, SQL_ROWS_SIZE_MAX, SQL_STEPS_MAX, SQL_TEXT_SIZE_MAX, SQL_VALUE_SIZE_MAX,
};
use crate::store::digest::Digest;

use super::context::{self, STEPS_A_LOOK};
use super::pages::Pages;
use super::rules;
use super::value::{Budget, Moment, Page, Rows, SqlValue, Statement, View, WOULD_CHANGE};
use super::vfs::{self, Medium};

/// What a command may take: the same at every replica for ever.
const COMMAND_BUDGET: Budget =
    Budget { steps: SQL_STEPS_MAX, until_ns: None, rows_size: SQL_ROWS_SIZE_MAX };

/// The replicated database.
pub struct Database {
    medium: Medium,
    digest: Digest,
    /// From the first command on.
    connection: Option<Connection>,
    /// Virtual tables remember more than is in the pages.
    has_virtual_tables: bool,
    /// Something in the schema asks how many rows were changed.
    asks_for_changes: bool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("pages", &self.medium.pages().len()).finish()
    }
}

impl Default for Database {
    fn default() -> Database {
        Database::new(Pages::default())
    }
}

impl Database {
    /// The database with these pages, which are settled; without any it is empty.
    pub fn new(pages: Pages) -> Database {
        let digest = pages.digest();
        let medium = Medium::new(pages);
        let (has_virtual_tables, asks_for_changes) = (false, false);
        Database { medium, digest, connection: None, has_virtual_tables, asks_for_changes }
    }

    /// Its pages as they were last settled; nothing is copied.
    pub fn pages(&self) -> Pages {
        self.medium.pages().clone()
    }

    /// The sum over the pages as they were last settled.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Brings the digest up to date, after one or more commands.
    pub fn settle(&mut self) {
        if self.connection.is_none() {
            return;
        }
        let mut pages = self.medium.pages();
        pages.settle();
        self.digest = pages.digest();
    }

    /// Begins a command. What follows up to `commit` or `roll_back` happens as a whole or not at all.
    pub fn begin(&mut self, moment: Moment) {
        if self.connection.is_none() || self.has_virtual_tables {
            self.open();
        }
        let connection = self.connection();
        vfs::begin_anew(connection, moment.seed as u32);
        context::begin(moment, COMMAND_BUDGET, true, connection.total_changes());
        self.own("BEGIN IMMEDIATE");
    }

    /// Runs a statement. An error says why it failed; then the command must be rolled back.
    pub fn run(&mut self, statement: &Statement<'_>) -> Result<Rows, String> {
        if self.asks_for_changes || mentions_changes(statement.text) {
            self.forget_changes();
        }
        let (mut size, mut rows) = (0, Vec::new());
        let head = run(self.connection(), statement, 0, &mut |row| {
            size += size_of(&row);
            if COMMAND_BUDGET.rows_size < size {
                return Err(too_large(COMMAND_BUDGET));
            }
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Rows { rows, ..head })
    }

    /// Before its first change, a command has changed nothing. SQLite would go on with the rows that another one changed,
    /// which it also comes back to behind each trigger; it forgets them when a statement changes none.
    fn forget_changes(&self) {
        let connection = self.connection();
        if connection.changes() == 0 || connection.total_changes() != context::changed_before() {
            return;
        }
        // The one table that is always there, and on which nothing hangs that may be broken. None of its rows goes.
        let protect = |on: bool| {
            let set = |config, value| connection.set_db_config(config, value).map(|_| ());
            set(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, on)
                .and_then(|()| set(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, !on))
                .expect("SQLite takes its settings");
        };
        protect(false);
        self.own("DELETE FROM sqlite_schema WHERE 0");
        protect(true);
        assert_eq!(connection.changes(), 0);
    }

    /// Ends the command, unless what it leaves is not allowed (foreign keys); then it is rolled back.
    pub fn commit(&mut self) -> Result<(), String> {
        let done = context::as_own(|| self.connection().execute_batch("COMMIT"));
        if let Err(error) = done {
            let why = reason(&error);
            self.roll_back();
            return Err(why);
        }
        self.end();
        Ok(())
    }

    /// Ends the command as if it had never been.
    pub fn roll_back(&mut self) {
        // Some failures have done so already.
        if !self.connection().is_autocommit() {
            self.own("ROLLBACK");
        }
        self.end();
    }

    fn end(&mut self) {
        if context::has_touched_schema() {
            self.open();
        }
    }

    fn open(&mut self) {
        // First of all: it writes nothing more.
        self.connection = None;
        let connection = open(&self.medium, false);
        self.has_virtual_tables = has_virtual_tables(&connection);
        self.asks_for_changes = is_in_schema(&connection, "%changes%");
        self.connection = Some(connection);
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a command has begun")
    }

    fn own(&self, sql: &str) {
        let done = context::as_own(|| self.connection().execute_batch(sql));
        done.unwrap_or_else(|error| panic!("SQLite does not {sql}: {error}"));
    }
}

/// Reads databases as they were; one after the other.
pub struct Reader {
    medium: Medium,
    connection: Option<Connection>,
    /// Of the schema that the connection was opened for.
    schema: Option<u32>,
    /// Of the pages that it was opened for.
    digest: Option<Digest>,
    has_virtual_tables: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Default for Reader {
    fn default() -> Reader {
        let medium = Medium::new(Pages::default());
        Reader { medium, connection: None, schema: None, digest: None, has_virtual_tables: false }
    }
}

impl Reader {
    /// What a statement gives on these pages, from row `skip` on, as far as the budget goes. One that would change them
    /// is an error.
    ///
    /// The pages of a result are those of one order of its rows, which depends on what SQLite remembers of the database
    /// (statistics): so wherever there is more than one, it begins anew.
    pub fn query(
        &mut self,
        view: View<'_>,
        statement: &Statement<'_>,
        skip: u64,
    ) -> Result<Page, String> {
        let pages = view.pages;
        if 0 < skip && self.digest != Some(pages.digest()) {
            self.connection = None;
        }
        let page = self.page(view, statement, skip)?;
        if page.next.is_none() || self.digest == Some(pages.digest()) {
            return Ok(page);
        }
        self.connection = None;
        self.page(view, statement, skip)
    }

    fn page(
        &mut self,
        view: View<'_>,
        statement: &Statement<'_>,
        skip: u64,
    ) -> Result<Page, String> {
        let (mut size, mut rows, mut is_more) = (0, Vec::new(), false);
        let head = self.each(view, statement, skip, &mut |row| {
            size += size_of(&row);
            if view.budget.rows_size < size {
                if rows.is_empty() {
                    return Err(too_large(view.budget));
                }
                is_more = true;
                return Ok(ControlFlow::Break(()));
            }
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        let next = is_more.then_some(skip + rows.len() as u64);
        Ok(Page { rows: Rows { rows, ..head }, next })
    }

    /// Hands each row that a statement gives to `take`, from row `skip` on, until that breaks off.
    pub fn each(
        &mut self,
        view: View<'_>,
        statement: &Statement<'_>,
        skip: u64,
        take: Take<'_>,
    ) -> Result<Rows, String> {
        let View { pages, moment, budget } = view;
        *self.medium.pages() = pages.clone();
        let schema = Some(pages.schema());
        if self.has_virtual_tables || self.schema != schema {
            self.connection = None;
        }
        let connection = self.connection.get_or_insert_with(|| {
            let connection = open(&self.medium, true);
            (self.schema, self.has_virtual_tables) = (schema, has_virtual_tables(&connection));
            self.digest = Some(pages.digest());
            connection
        });
        vfs::forget_pages(connection);
        context::begin(moment, budget, false, 0);
        let head = run(connection, statement, skip, take);
        // They are not kept alive by who reads next.
        *self.medium.pages() = Pages::default();
        head
    }
}

/// What is done with a row; an error ends the statement.
type Take<'a> = &'a mut dyn FnMut(Vec<SqlValue>) -> Result<ControlFlow<()>, String>;

/// Bytes that a row takes in a reply, about.
fn size_of(row: &[SqlValue]) -> usize {
    row.iter().map(SqlValue::size).sum()
}

fn too_large(budget: Budget) -> String {
    format!("the result is larger than {} bytes", budget.rows_size)
}

fn has_virtual_tables(connection: &Connection) -> bool {
    is_in_schema(connection, "CREATE VIRTUAL%")
}

fn is_in_schema(connection: &Connection, pattern: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE sql LIKE ?)";
    let found = context::as_own(|| connection.query_row(sql, [pattern], |row| row.get(0)));
    found.expect("a database has a schema")
}

/// Whether a statement may ask how many rows were changed.
fn mentions_changes(text: &str) -> bool {
    text.as_bytes().windows(7).any(|word| word.eq_ignore_ascii_case(b"changes"))
}

/// Opens a database with everything set that a file does not keep.
fn open(medium: &Medium, read_only: bool) -> Connection {
    let opened = context::as_own(|| {
        let mut connection = medium.open(read_only)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; \
             PRAGMA max_page_count = {SQL_PAGES_MAX};"
        ))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LENGTH, SQL_VALUE_SIZE_MAX as i32),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_TEXT_SIZE_MAX as i32),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 100),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, most)?;
        }
        add_functions(&connection)?;
        connection.progress_handler(STEPS_A_LOOK as i32, Some(context::is_over_budget))?;
        connection.authorizer(Some(rules::authorize))?;
        Ok::<_, Error>(connection)
    });
    opened.unwrap_or_else(|error| panic!("SQLite does not open the replicated database: {error}"))
}

/// SQLite's functions of chance and of the connection, as functions of the command.
fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function(c"random", 0, flags, |_| Ok(context::random() as i64))?;
    connection.create_scalar_function(c"randomblob", 1, flags, |call| {
        let size = call.get::<Option<i64>>(0)?.unwrap_or(0).max(1);
        if SQL_VALUE_SIZE_MAX as i64 <= size {
            let too_big = ffi::Error::new(ffi::SQLITE_TOOBIG);
            return Err(Error::SqliteFailure(too_big, Some("string or blob too big".to_owned())));
        }
        let words = (0..(size as usize).div_ceil(8)).flat_map(|_| context::random().to_le_bytes());
        Ok(words.take(size as usize).collect::<Vec<u8>>())
    })?;
    connection.create_scalar_function(c"changes", 0, flags, |call| {
        let (changes, total) = vfs::changes(call)?;
        Ok(if total == context::changed_before() { 0 } else { changes as i64 })
    })
}

/// Runs a statement and hands out its rows, but the first `skip` of them. What comes back has none.
fn run(
    connection: &Connection,
    statement: &Statement<'_>,
    skip: u64,
    take: Take<'_>,
) -> Result<Rows, String> {
    let failed = |error: &Error| reason(error);
    let mut prepared = connection.prepare(statement.text).map_err(|error| failed(&error))?;
    let expected = prepared.parameter_count();
    let given = statement.parameters.len();
    if expected != given {
        return Err(format!("the statement has {expected} parameters, and {given} are given"));
    }
    for (index, value) in statement.parameters.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, value).map_err(|error| failed(&error))?;
    }
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let before = connection.total_changes();
    let mut left = skip;
    let mut found = prepared.raw_query();
    while let Some(row) = found.next().map_err(|error| failed(&error))? {
        if 0 < left {
            left -= 1;
            continue;
        }
        let values = (0..columns.len()).map(|index| row.get_ref(index).map(of_sqlite));
        let values: Vec<SqlValue> =
            values.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
        if take(values)?.is_break() {
            break;
        }
    }
    drop(found);
    // What was changed last may have been changed by another command.
    let changes = if connection.total_changes() == before { 0 } else { connection.changes() };
    let last = connection.last_insert_rowid();
    let last_row_id = (last != 0).then_some(last);
    Ok(Rows { columns, rows: Vec::new(), changes, last_row_id })
}

/// Why a statement failed, in words that are the same at every replica.
///
/// # Panics
/// If there is no memory: another replica may have it, and must not be contradicted.
fn reason(error: &Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OutOfMemory) => panic!("SQLite has no memory left"),
        Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
            context::take_refusal().unwrap_or_else(|| "not allowed".to_owned())
        }
        Some(rusqlite::ErrorCode::OperationInterrupted) => {
            "stopped: it takes too long for one statement".to_owned()
        }
        Some(rusqlite::ErrorCode::ReadOnly) => WOULD_CHANGE.to_owned(),
        _ => match error {
            Error::SqliteFailure(_, Some(message)) => message.clone(),
            Error::SqlInputError { msg, .. } => msg.clone(),
            Error::MultipleStatement => "more than one statement".to_owned(),
            other => other.to_string(),
        },
    }
}

fn of_sqlite(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Text(bytes) => SqlValue::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            SqlValue::Null => ToSqlOutput::Owned(Value::Null),
            SqlValue::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            SqlValue::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
            SqlValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            SqlValue::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
