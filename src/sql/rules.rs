//! What statements may not do: whatever would make replicas differ or reach beyond the database.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::context;

/// Pragmas that tell something of the database, which is the same at every replica.
const PRAGMAS: [&str; 20] = [
    "application_id",
    "collation_list",
    "data_version",
    "database_list",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "page_size",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas of which that is true as long as they are given no value.
const PRAGMAS_ASKED: [&str; 3] = ["encoding", "foreign_keys", "page_size"];
/// Those that write the database's header, and nothing else.
const PRAGMAS_STORED: [&str; 2] = ["application_id", "user_version"];
/// Kinds of virtual tables that keep all they know in tables.
const MODULES: [&str; 4] = ["fts5", "fts5vocab", "rtree", "rtree_i32"];
/// Functions that tell of this connection, or of this release.
const FUNCTIONS: [&str; 6] = [
    "fts3_tokenizer",
    "load_extension",
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_source_id",
    "total_changes",
];

/// SQLite asks this of each thing that a statement is going to do, when it is prepared.
pub fn authorize(context: AuthContext<'_>) -> Authorization {
    if context::is_own() {
        return Authorization::Allow;
    }
    match judge(&context.action) {
        Ok(()) => Authorization::Allow,
        Err(why) => {
            context::refuse(why);
            Authorization::Deny
        }
    }
}

fn judge(action: &AuthAction<'_>) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    match *action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            refuse("other database files are not reached from here (ATTACH, DETACH, VACUUM)")
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => refuse(
            "a command is a transaction already: put its statements into one batch instead of \
             BEGIN, COMMIT, ROLLBACK or SAVEPOINT",
        ),
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => {
            refuse("what is temporary would be kept by one connection of one replica")
        }
        AuthAction::Pragma { pragma_name, pragma_value } => pragma(pragma_name, pragma_value),
        AuthAction::CreateVtable { module_name, .. } => {
            context::note_schema();
            match is_one_of(&MODULES, module_name) {
                true => Ok(()),
                false => Err(format!("there are no virtual tables of the kind {module_name}")),
            }
        }
        AuthAction::Function { function_name } => {
            let tells_release = function_name.eq_ignore_ascii_case("sqlite_version");
            if is_one_of(&FUNCTIONS, function_name) || tells_release && context::is_command() {
                return Err(format!("{function_name}() may differ from replica to replica"));
            }
            Ok(())
        }
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => {
            if table_name.starts_with("sqlite_") {
                context::note_schema();
            }
            Ok(())
        }
        AuthAction::Read { .. } | AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Unknown { .. } => refuse("SQLite asks for something that is not known here"),
        _ => {
            // Tables, indices, views and triggers come and go; statistics change plans.
            context::note_schema();
            Ok(())
        }
    }
}

fn pragma(name: &str, value: Option<&str>) -> Result<(), String> {
    let is_asked = value.is_none();
    if is_one_of(&PRAGMAS_STORED, name)
        || is_one_of(&PRAGMAS, name) && (is_asked || !is_one_of(&PRAGMAS_ASKED, name))
    {
        return Ok(());
    }
    Err(format!("PRAGMA {name} would change this connection of this replica only, or its file"))
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|it| it.eq_ignore_ascii_case(name))
}
