//! `loggos txn`: conditions and steps, a line each, as one command.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde_json::{Map, Value, json};

use super::args::{ShellCommand, TxnArgs};
use super::kv::{self, Kv};
use super::output::{self, decided, json_answer, json_bytes, text};
use super::{Failure, images, shell, words};
use crate::client::Client;
use crate::limits::COMMAND_SIZE_MAX;
use crate::sql::{Rows, SqlValue, Statement};
use crate::store::{self, Command, Condition, Holds, Reply, Step, StepReply, Transaction};
use crate::wire::kv::encode_transaction;

/// What the lines say, with the bytes that a transaction borrows.
#[derive(Debug, Default)]
struct Script {
    conditions: Vec<(Vec<u8>, Test)>,
    then: Vec<Line>,
    otherwise: Vec<Line>,
}

#[derive(Debug)]
enum Test {
    Missing,
    Something,
    Equal(Vec<u8>),
    NotEqual(Vec<u8>),
    Less(Vec<u8>),
    Greater(Vec<u8>),
    Token(u64),
}

#[derive(Debug)]
enum Line {
    Kv(Kv),
    Sql(String),
    SetImage { hash: Vec<u8>, meta: Vec<u8> },
    DeleteImage { hash: Vec<u8> },
    Nearest { hash: Vec<u8>, within: u32, limit: u32 },
}

pub fn run(args: &TxnArgs, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let lines = if args.lines.is_empty() {
        let mut bytes = Vec::new();
        let input = std::io::stdin().take(COMMAND_SIZE_MAX as u64 + 1).read_to_end(&mut bytes);
        input.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    } else {
        args.lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>()
    };
    let script = parse(&lines)?;
    let transaction = script.transaction()?;
    let bytes = encode_transaction(&transaction);
    if COMMAND_SIZE_MAX < bytes.len() {
        return Err(Failure::usage(format!("it has more than {COMMAND_SIZE_MAX} bytes")));
    }
    let answer = client.execute(&Command::Transaction(&bytes))?;
    let mut json = json_answer(&answer, !matches!(answer.reply, Reply::Failed(_)));
    let failure = match &answer.reply {
        Reply::Transaction { held, steps } => {
            if args.format.json {
                json.insert("held".to_owned(), json!(held));
                json.insert("steps".to_owned(), Value::Array(steps.iter().map(as_json).collect()));
            } else {
                let mut shown = String::new();
                if !script.conditions.is_empty() {
                    shown.push_str(if *held { "then\n" } else { "else\n" });
                }
                steps.iter().for_each(|step| show(step, &mut shown));
                output::print(out, &shown)?;
            }
            None
        }
        Reply::Failed(store::Failure::Step { step, why }) => {
            json.insert("failure".to_owned(), json!("refused"));
            json.insert("step".to_owned(), json!(step));
            Some(Failure::refused(format!("step {}: {why}; nothing was changed", step + 1)))
        }
        Reply::Failed(_) => {
            json.insert("failure".to_owned(), json!("invalid"));
            Some(Failure::refused(
                "the store takes no such command; nothing was changed".to_owned(),
            ))
        }
        _ => return Err(kv::nonsense()),
    };
    if args.format.json {
        output::print(out, &format!("{}\n", Value::Object(json)))?;
    }
    if args.format.verbose {
        eprintln!("{}", decided(&answer));
    }
    failure.map_or(Ok(()), Err)
}

fn parse(lines: &[Vec<u8>]) -> Result<Script, Failure> {
    let mut script = Script::default();
    let mut is_else = false;
    let mut has_steps = false;
    for (number, line) in (1..).zip(lines) {
        let at = |why: String| Failure::usage(format!("line {number}: {why}"));
        let line = std::str::from_utf8(line).map_err(|_| at("it is not UTF-8".to_owned()))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(statement) = line.strip_prefix("sql ") {
            has_steps = true;
            script.steps(is_else).push(Line::Sql(statement.trim().to_owned()));
            continue;
        }
        let words = words::split(line).map_err(at)?;
        match &words[0][..] {
            b"if" if has_steps || is_else => {
                return Err(at("conditions come before all steps".to_owned()));
            }
            b"if" => script.conditions.push(condition(&words[1..]).map_err(at)?),
            b"then" if words.len() == 1 && !has_steps && !is_else => {}
            b"else" if words.len() == 1 && !is_else => is_else = true,
            _ => {
                has_steps = true;
                script.steps(is_else).push(step(words).map_err(at)?);
            }
        }
    }
    Ok(script)
}

fn condition(words: &[Vec<u8>]) -> Result<(Vec<u8>, Test), String> {
    let test = match words {
        [_, word] if word == b"missing" => Test::Missing,
        [_, word] if word == b"exists" => Test::Something,
        [_, word, value] => match &word[..] {
            b"=" => Test::Equal(value.clone()),
            b"!=" => Test::NotEqual(value.clone()),
            b"<" => Test::Less(value.clone()),
            b">" => Test::Greater(value.clone()),
            b"token" => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                Test::Token(number.ok_or("a token is a number")?)
            }
            _ => return Err(CONDITIONS.to_owned()),
        },
        _ => return Err(CONDITIONS.to_owned()),
    };
    Ok((words[0].clone(), test))
}

const CONDITIONS: &str = "a condition is `if KEY missing`, `if KEY exists`, `if KEY = VALUE` (or !=, <, >), \
                          or `if KEY token N`";

fn step(words: Vec<Vec<u8>>) -> Result<Line, String> {
    let refused = || "a step is a command on one key or image, or sql STATEMENT".to_owned();
    let hash = |typed: &OsStr| images::hash(typed).map_err(|failure| failure.message);
    Ok(match ShellCommand::parse(words.into_iter().map(shell::os_string).collect())? {
        ShellCommand::Kv(Kv::Scan(_)) => return Err(refused()),
        ShellCommand::Kv(Kv::ImageSet(args)) => {
            Line::SetImage { hash: hash(&args.hash)?, meta: args.meta.into_vec() }
        }
        ShellCommand::Kv(Kv::ImageDelete(args)) => Line::DeleteImage { hash: hash(&args.hash)? },
        ShellCommand::Kv(Kv::ImageGet(args)) => {
            let (within, limit) = images::bounds(&args);
            Line::Nearest { hash: hash(&args.hash)?, within, limit }
        }
        ShellCommand::Kv(kv) => Line::Kv(kv),
        _ => return Err(refused()),
    })
}

impl Script {
    fn steps(&mut self, is_else: bool) -> &mut Vec<Line> {
        if is_else { &mut self.otherwise } else { &mut self.then }
    }

    fn transaction(&self) -> Result<Transaction<'_>, Failure> {
        let conditions = self.conditions.iter().map(|(key, test)| {
            let key = kv::key(OsStr::from_bytes(key))?;
            Ok(Condition { key, holds: test.holds() })
        });
        let conditions = conditions.collect::<Result<_, Failure>>()?;
        Ok(Transaction { conditions, then: steps(&self.then)?, otherwise: steps(&self.otherwise)? })
    }
}

fn steps(lines: &[Line]) -> Result<Vec<Step<'_>>, Failure> {
    lines.iter().map(Line::step).collect()
}

impl Test {
    fn holds(&self) -> Holds<'_> {
        match self {
            Test::Missing => Holds::Missing,
            Test::Something => Holds::Something,
            Test::Equal(value) => Holds::Equal(value),
            Test::NotEqual(value) => Holds::NotEqual(value),
            Test::Less(value) => Holds::Less(value),
            Test::Greater(value) => Holds::Greater(value),
            Test::Token(token) => Holds::Token(*token),
        }
    }
}

impl Line {
    fn step(&self) -> Result<Step<'_>, Failure> {
        match self {
            Line::Sql(text) => Ok(Step::Sql(Statement { text, parameters: Vec::new() })),
            Line::Kv(Kv::Get(args)) => Ok(Step::Get { key: kv::key(&args.key)? }),
            Line::Kv(kv) => Ok(Step::Key(kv::command(kv)?)),
            Line::SetImage { hash, meta } => Ok(Step::Key(Command::SetImage { hash, meta })),
            Line::DeleteImage { hash } => Ok(Step::Key(Command::DeleteImage { hash })),
            Line::Nearest { hash, within, limit } => {
                Ok(Step::Nearest { hash, within: *within, limit: *limit })
            }
        }
    }
}

fn show(step: &StepReply, out: &mut String) {
    match step {
        StepReply::Done => out.push_str("ok\n"),
        StepReply::Integer(number) => out.push_str(&format!("{number}\n")),
        StepReply::Token(token) => out.push_str(&format!("{token}\n")),
        StepReply::Value(Some(value)) => out.push_str(&format!("{}\n", text(value))),
        StepReply::Value(None) => out.push_str("(none)\n"),
        StepReply::Images(found) if found.is_empty() => out.push_str("(none)\n"),
        StepReply::Images(found) => found.iter().for_each(|it| out.push_str(&images::line(it))),
        StepReply::Rows(Rows { columns, changes, .. }) if columns.is_empty() => {
            out.push_str(&format!("{changes} rows changed\n"));
        }
        StepReply::Rows(rows) => {
            for row in &rows.rows {
                let fields: Vec<String> = row.iter().map(SqlValue::to_string).collect();
                out.push_str(&format!("{}\n", fields.join("|")));
            }
        }
    }
}

fn as_json(step: &StepReply) -> Value {
    let mut object = Map::new();
    match step {
        StepReply::Done => {}
        StepReply::Integer(number) => _ = object.insert("value".to_owned(), json!(number)),
        StepReply::Token(token) => _ = object.insert("token".to_owned(), json!(token)),
        StepReply::Value(Some(value)) => json_bytes(&mut object, "value", value),
        StepReply::Value(None) => _ = object.insert("value".to_owned(), Value::Null),
        StepReply::Images(found) => {
            let found = found.iter().map(images::json_image).collect();
            object.insert("images".to_owned(), Value::Array(found));
        }
        StepReply::Rows(rows) => {
            let of = |value: &SqlValue| match value {
                SqlValue::Null => Value::Null,
                SqlValue::Integer(number) => json!(number),
                SqlValue::Real(number) => json!(number),
                SqlValue::Text(_) | SqlValue::Blob(_) => json!(value.to_string()),
            };
            let of_row = |row: &Vec<SqlValue>| Value::Array(row.iter().map(of).collect());
            object.insert("columns".to_owned(), json!(rows.columns));
            object.insert("rows".to_owned(), Value::Array(rows.rows.iter().map(of_row).collect()));
            object.insert("changes".to_owned(), json!(rows.changes));
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Script, String> {
        let lines: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        parse(&lines).map_err(|failure| failure.message)
    }

    #[test]
    fn lines_become_a_transaction() {
        let script = parsed(
            "# a comment\nif a missing\nif b = 'x y'\nif l token 7\nthen\nput a 1\nincr n -2\nget b\n\
             sql INSERT INTO t VALUES ('it''s')\nelse\ndelete b\niset 0aff cat\niget 0aff --within 3\n",
        );
        let script = script.unwrap();
        let transaction = script.transaction().unwrap();
        let condition = |key, holds| Condition { key, holds };
        assert_eq!(
            transaction.conditions,
            [
                condition(b"a", Holds::Missing),
                condition(b"b", Holds::Equal(b"x y")),
                condition(b"l", Holds::Token(7)),
            ]
        );
        let text = "INSERT INTO t VALUES ('it''s')";
        assert_eq!(
            transaction.then,
            [
                Step::Key(Command::Put { key: b"a", value: b"1" }),
                Step::Key(Command::Incr { key: b"n", by: -2 }),
                Step::Get { key: b"b" },
                Step::Sql(Statement { text, parameters: vec![] }),
            ]
        );
        let hash: &[u8] = &[10, 255];
        assert_eq!(
            transaction.otherwise,
            [
                Step::Key(Command::Delete { key: b"b" }),
                Step::Key(Command::SetImage { hash, meta: b"cat" }),
                Step::Nearest { hash, within: 3, limit: u32::MAX },
            ]
        );
    }

    #[test]
    fn what_is_no_transaction_is_refused_by_its_line() {
        for (text, line) in [
            ("put a 1\nif a missing", 2),
            ("if a", 1),
            ("if a ~ b", 1),
            ("if l token x", 1),
            ("scan", 1),
            ("status", 1),
            ("else\nelse", 2),
            ("get 'a", 1),
        ] {
            let why = parsed(text).unwrap_err();
            assert!(why.starts_with(&format!("line {line}: ")), "{text}: {why}");
        }
        assert!(parsed("put '' 1").unwrap().transaction().is_err(), "a key that is none");
        assert!(parsed("").unwrap().transaction().unwrap().then.is_empty(), "nothing is allowed");
    }
}
