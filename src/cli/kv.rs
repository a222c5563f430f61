//! The commands on keys: `get`, `put`, `create`, `update`, `delete`, `cas`, `incr`, `scan`, `renew`, `unlock`.
//!
//! What was asked for goes to standard output and nothing else does, so that scripts can use it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::{
    CasArgs, DeleteArgs, FormatArgs, GetArgs, IncrArgs, PutArgs, RenewArgs, ScanArgs, TtlArgs,
    UnlockArgs,
};
use super::args::{ImageDeleteArgs, ImageGetArgs, ImageSetArgs};
use super::output::{self, decided, field, hex, json_answer, json_bytes, quote, text};
use super::{Failure, code, images};
use crate::client::{Answer, Client, Entry};
use crate::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use crate::store::{self, Command, Query, Reply, prefix_end};

/// One of them, with its arguments, as the shell takes it.
#[derive(Debug)]
pub enum Kv {
    Get(GetArgs),
    Put(PutArgs),
    Create(PutArgs),
    Update(PutArgs),
    Delete(DeleteArgs),
    Cas(CasArgs),
    Incr(IncrArgs),
    Scan(ScanArgs),
    Ttl(TtlArgs),
    Renew(RenewArgs),
    Unlock(UnlockArgs),
    ImageSet(ImageSetArgs),
    ImageGet(ImageGetArgs),
    ImageDelete(ImageDeleteArgs),
}

/// Where a command runs.
pub struct Session<'a> {
    pub client: &'a mut Client,
    pub out: &'a mut dyn Write,
    /// Where the value `-` comes from; the shell has none, its input is the commands.
    pub input: Option<&'a mut dyn Read>,
}

pub fn run(kv: &Kv, session: &mut Session<'_>) -> Result<(), Failure> {
    match kv {
        Kv::Get(args) => get(args, session),
        Kv::Scan(args) => scan(args, session),
        Kv::Ttl(args) => ttl(args, session),
        Kv::Renew(args) => session.execute(&command(kv)?, args.format),
        Kv::Unlock(args) => session.execute(&command(kv)?, args.format),
        Kv::ImageSet(args) => images::set(args, session),
        Kv::ImageGet(args) => images::get(args, session),
        Kv::ImageDelete(args) => images::delete(args, session),
        Kv::Put(args) => {
            let value = session.value(&args.value)?;
            session.execute(&put(key(&args.key)?, &value, args.ttl), args.format)
        }
        Kv::Create(args) => {
            let value = session.value(&args.value)?;
            let command = Command::Create { key: key(&args.key)?, value: &value };
            session.execute(&command, args.format)
        }
        Kv::Update(args) => {
            let value = session.value(&args.value)?;
            let command = Command::Update { key: key(&args.key)?, value: &value };
            session.execute(&command, args.format)
        }
        Kv::Delete(args) => session.execute(&Command::Delete { key: key(&args.key)? }, args.format),
        Kv::Cas(args) => {
            let value = session.value(&args.value)?;
            let expect = Some(checked_value(args.expect.as_bytes())?);
            let command = Command::Cas { key: key(&args.key)?, expect, value: &value };
            session.execute(&command, args.format)
        }
        Kv::Incr(args) => {
            let command = Command::Incr { key: key(&args.key)?, by: args.by };
            session.execute(&command, args.format)
        }
    }
}

/// The write of a key as it stands, where a value `-` means nothing but itself.
pub fn command(kv: &Kv) -> Result<Command<'_>, Failure> {
    let value = |value: &'_ OsStr| checked_value(value.as_bytes()).map(|_| ());
    Ok(match kv {
        Kv::Put(args) => {
            value(&args.value)?;
            put(key(&args.key)?, args.value.as_bytes(), args.ttl)
        }
        Kv::Create(args) => {
            value(&args.value)?;
            Command::Create { key: key(&args.key)?, value: args.value.as_bytes() }
        }
        Kv::Update(args) => {
            value(&args.value)?;
            Command::Update { key: key(&args.key)?, value: args.value.as_bytes() }
        }
        Kv::Delete(args) => Command::Delete { key: key(&args.key)? },
        Kv::Cas(args) => {
            value(&args.expect)?;
            value(&args.value)?;
            let expect = Some(args.expect.as_bytes());
            Command::Cas { key: key(&args.key)?, expect, value: args.value.as_bytes() }
        }
        Kv::Incr(args) => Command::Incr { key: key(&args.key)?, by: args.by },
        Kv::Renew(args) => {
            let ttl_us = args.ttl.as_micros() as u64;
            Command::Renew { key: key(&args.key)?, token: args.token, ttl_us }
        }
        Kv::Unlock(args) => Command::Unlock { key: key(&args.key)?, token: args.token },
        Kv::Get(_)
        | Kv::Scan(_)
        | Kv::Ttl(_)
        | Kv::ImageSet(_)
        | Kv::ImageGet(_)
        | Kv::ImageDelete(_) => {
            unreachable!("these write no key")
        }
    })
}

fn put<'a>(key: &'a [u8], value: &'a [u8], ttl: Option<Duration>) -> Command<'a> {
    match ttl {
        None => Command::Put { key, value },
        Some(ttl) => Command::PutFor { key, value, ttl_us: ttl.as_micros() as u64 },
    }
}

impl Session<'_> {
    pub fn execute(&mut self, command: &Command<'_>, format: FormatArgs) -> Result<(), Failure> {
        let answer = self.client.execute(command).map_err(Failure::from)?;
        let mut json = json_answer(&answer, !matches!(answer.reply, Reply::Failed(_)));
        let (plain, failure) = match &answer.reply {
            Reply::Done => ("ok".to_owned(), None),
            Reply::Integer(sum) => {
                json.insert("value".to_owned(), json!(sum));
                (sum.to_string(), None)
            }
            Reply::Token(token) => {
                json.insert("token".to_owned(), json!(token));
                (token.to_string(), None)
            }
            Reply::Failed(why) => {
                let failure = refusal(command, why, &mut json);
                (String::new(), Some(failure))
            }
            Reply::Value(_)
            | Reply::Entries { .. }
            | Reply::Transaction { .. }
            | Reply::Rows(_)
            | Reply::RowsPart { .. }
            | Reply::Ttl { .. }
            | Reply::Images { .. } => return Err(nonsense()),
        };
        if format.json {
            self.print(Value::Object(json).to_string().as_bytes(), b"\n")?;
        } else if failure.is_none() {
            self.print(plain.as_bytes(), b"\n")?;
        }
        note(&answer, format);
        failure.map_or(Ok(()), Err)
    }

    /// The bytes of a VALUE argument.
    pub fn value<'v>(&mut self, value: &'v OsStr) -> Result<std::borrow::Cow<'v, [u8]>, Failure> {
        match &mut self.input {
            Some(input) if value == "-" => {
                let mut bytes = Vec::new();
                let most = VALUE_SIZE_MAX as u64 + 1;
                input
                    .take(most)
                    .read_to_end(&mut bytes)
                    .map_err(|error| Failure::usage(format!("standard input: {error}")))?;
                checked_value(&bytes)?;
                Ok(bytes.into())
            }
            _ => Ok(checked_value(value.as_bytes())?.into()),
        }
    }

    pub fn print(&mut self, bytes: &[u8], end: &[u8]) -> Result<(), Failure> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.write_all(end));
        written.and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))
    }
}

fn get(args: &GetArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    let key = key(&args.key)?;
    let answer =
        session.client.query(&Query::Get { key }, args.consistency).map_err(Failure::from)?;
    let Reply::Value(value) = &answer.reply else { return Err(nonsense()) };
    note(&answer, args.format);
    if args.format.json {
        let mut json = json_answer(&answer, value.is_some());
        match value {
            Some(value) => json_bytes(&mut json, "value", value),
            None => _ = json.insert("failure".to_owned(), json!("not_found")),
        }
        session.print(Value::Object(json).to_string().as_bytes(), b"\n")?;
    }
    match value {
        None => Err(Failure::refused(format!("there is no key {}", quote(key)))),
        Some(_) if args.format.json => Ok(()),
        Some(value) if args.raw => session.print(value, b""),
        Some(value) => session.print(text(value).as_bytes(), b"\n"),
    }
}

fn ttl(args: &TtlArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    let key = key(&args.key)?;
    let answer = session.client.query(&Query::Ttl { key }, args.consistency)?;
    let (left_us, token) = match answer.reply {
        Reply::Ttl { left_us, token } => (left_us, token),
        Reply::Failed(store::Failure::NotFound) => {
            return Err(Failure::refused(format!("there is no key {}", quote(key))));
        }
        _ => return Err(nonsense()),
    };
    note(&answer, args.format);
    if args.format.json {
        let mut json = json_answer(&answer, true);
        json.insert("left_us".to_owned(), json!(left_us));
        json.insert("token".to_owned(), json!(token));
        return session.print(Value::Object(json).to_string().as_bytes(), b"\n");
    }
    let left = left_us.map_or("stays".to_owned(), |us| format!("{:?}", Duration::from_micros(us)));
    let lock = if token == 0 { String::new() } else { format!(" token {token}") };
    session.print(format!("{left}{lock}").as_bytes(), b"\n")
}

fn scan(args: &ScanArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    let bytes = |arg: &Option<std::ffi::OsString>| arg.as_ref().map(|arg| arg.as_bytes().to_vec());
    let (from, to) = match bytes(&args.prefix) {
        Some(prefix) => (prefix.clone(), prefix_end(&prefix)),
        None => (bytes(&args.from).unwrap_or_default(), bytes(&args.to)),
    };
    for bound in [Some(&from), to.as_ref()].into_iter().flatten() {
        if KEY_SIZE_MAX < bound.len() {
            return Err(Failure::usage(format!("a key has at most {KEY_SIZE_MAX} bytes")));
        }
    }
    let (client, out) = (&mut *session.client, &mut *session.out);
    let mut all = Vec::new();
    let mut take = |entries: Vec<Entry>| {
        if args.format.json {
            all.extend(entries.iter().map(|entry| json_entry(entry, args.keys)));
            return Ok(());
        }
        let mut page = String::new();
        for (key, value) in &entries {
            page.push_str(&field(key));
            if !args.keys {
                page.push('\t');
                page.push_str(&field(value));
            }
            page.push('\n');
        }
        output::print(out, &page)
    };
    let limit = args.limit.unwrap_or(u64::MAX);
    let answer = client.scan(&from, to.as_deref(), limit, args.consistency, &mut take)?;
    let Reply::Entries { next, .. } = &answer.reply else { return Err(nonsense()) };
    if args.format.json {
        let mut json = json_answer(&answer, true);
        json.insert("entries".to_owned(), Value::Array(all));
        if let Some(next) = next {
            json_bytes(&mut json, "next", next);
        }
        session.print(Value::Object(json).to_string().as_bytes(), b"\n")?;
    } else if let Some(next) = next {
        eprintln!("loggos: there is more: --from {}", quote(next));
    }
    note(&answer, args.format);
    Ok(())
}

fn json_entry((key, value): &Entry, keys: bool) -> Value {
    let mut entry = Map::new();
    json_bytes(&mut entry, "key", key);
    if !keys {
        json_bytes(&mut entry, "value", value);
    }
    Value::Object(entry)
}

/// Says why the condition of `command` did not hold, in words and in `json`.
fn refusal(command: &Command<'_>, why: &store::Failure, json: &mut Map<String, Value>) -> Failure {
    let key = quote(command.key().unwrap_or_default());
    let (word, message) = match why {
        store::Failure::Exists => ("exists", format!("{key} exists already (try update or put)")),
        store::Failure::NotFound => match command {
            Command::DeleteImage { hash } => {
                ("not_found", format!("there is no image {}", hex(hash)))
            }
            _ => ("not_found", format!("there is no key {key}")),
        },
        store::Failure::Mismatch { present: None } => {
            ("mismatch", format!("there is no key {key}"))
        }
        store::Failure::Mismatch { present: Some(present) } => {
            json_bytes(json, "present", present);
            ("mismatch", format!("{key} holds {}", quote(present)))
        }
        store::Failure::NotAnInteger => ("not_an_integer", format!("{key} holds no integer")),
        store::Failure::Overflow => ("overflow", format!("the sum in {key} leaves 64 bits")),
        store::Failure::Step { why, .. } | store::Failure::Sql { why } => ("refused", why.clone()),
        store::Failure::NotHeld => {
            ("not_held", format!("the lock {key} is not held with this token"))
        }
        store::Failure::Invalid => ("invalid", "the store takes no such command".to_owned()),
    };
    json.insert("failure".to_owned(), json!(word));
    Failure::refused(format!("{message}; nothing was changed"))
}

pub fn note(answer: &Answer, format: FormatArgs) {
    if format.verbose {
        eprintln!("{}", decided(answer));
    }
}

/// Where a range of keys begins: any bytes that could.
pub fn bound(bound: Option<&OsStr>) -> Result<&[u8], Failure> {
    match bound.map_or(&b""[..], OsStrExt::as_bytes) {
        bytes if KEY_SIZE_MAX < bytes.len() => {
            Err(Failure::usage(format!("a key has at most {KEY_SIZE_MAX} bytes")))
        }
        bytes => Ok(bytes),
    }
}

pub fn key(key: &OsStr) -> Result<&[u8], Failure> {
    match key.len() {
        0 => Err(Failure::usage("a key must not be empty".to_owned())),
        1..=KEY_SIZE_MAX => Ok(key.as_bytes()),
        size => Err(Failure::usage(format!(
            "the key has {size} bytes; at most {KEY_SIZE_MAX} are allowed"
        ))),
    }
}

fn checked_value(value: &[u8]) -> Result<&[u8], Failure> {
    if VALUE_SIZE_MAX < value.len() {
        return Err(Failure::usage(format!("a value has at most {VALUE_SIZE_MAX} bytes")));
    }
    Ok(value)
}

/// A reply that does not belong to its request: it tells nothing of what happened.
pub fn nonsense() -> Failure {
    Failure { code: code::UNKNOWN, message: "the reply does not fit the request".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::args::ShellCommand;
    use super::super::{shell, words};
    use super::*;
    use crate::client::fake::Fake;

    /// Runs lines of the shell against one fake node: what the last one printed, or its exit code.
    fn play(lines: &[&str], input: &[u8]) -> Result<String, u8> {
        let fake = Fake::well(1);
        let mut client = Client::new(&fake.addresses, Duration::from_secs(20));
        let mut last = Ok(String::new());
        for line in lines {
            let words = words::split(line).unwrap().into_iter();
            let command = ShellCommand::parse(words.map(shell::os_string).collect()).unwrap();
            let (mut out, mut input) = (Vec::new(), input);
            let mut session =
                Session { client: &mut client, out: &mut out, input: Some(&mut input) };
            let kv = match command {
                ShellCommand::Kv(kv) => kv,
                other => panic!("{other:?}"),
            };
            let outcome = run(&kv, &mut session);
            last = match outcome {
                Ok(()) => Ok(String::from_utf8(out).unwrap()),
                Err(failure) => Err(failure.code),
            };
        }
        last
    }

    fn printed(lines: &[&str]) -> String {
        play(lines, b"").unwrap()
    }

    #[test]
    fn replies_of_writes() {
        assert_eq!(printed(&["put k v"]), "ok\n");
        assert_eq!(printed(&["incr n", "incr n -5"]), "-4\n");
        let json = printed(&["put k v --json"]);
        assert_eq!(json, "{\"ballot\":\"3.1\",\"node\":1,\"ok\":true,\"slot\":2}\n");
        assert_eq!(printed(&["create k a", "cas k a b", "update k c", "get k"]), "c\n");
        assert_eq!(printed(&["put k -5", "get k"]), "-5\n");
    }

    #[test]
    fn locks_are_renewed_and_freed_by_their_token() {
        assert_eq!(printed(&["put k v --ttl 5m", "get k"]), "v\n");
        let lines = |token: &str| play(&["put l me --ttl 1s", &format!("unlock l {token}")], b"");
        // The fake node takes 7 for the token of every lock.
        assert_eq!(lines("7"), Ok("ok\n".to_owned()));
        assert_eq!(lines("6"), Err(1));
        assert_eq!(printed(&["put l me", "renew l 7 --ttl 1s"]), "ok\n");
        assert_eq!(play(&["renew l 7"], b""), Err(1));
        assert_eq!(printed(&["put l me", "ttl l"]), "29.5s token 7\n");
        assert!(printed(&["put l me", "ttl l --json"]).contains(r#""left_us":29500000"#));
        assert_eq!(play(&["ttl l"], b""), Err(1));
    }

    #[test]
    fn a_condition_that_fails_is_exit_code_1() {
        for line in ["get k", "update k v", "delete k", "cas k a b"] {
            assert_eq!(play(&[line], b""), Err(1), "{line}");
        }
        assert_eq!(play(&["create k v", "create k v"], b""), Err(1));
        assert_eq!(play(&["put k v", "cas k w x"], b""), Err(1));
    }

    #[test]
    fn bad_keys_and_values_are_exit_code_2() {
        assert_eq!(play(&["get ''"], b""), Err(2));
        assert_eq!(play(&[&format!("get {}", "k".repeat(5000))], b""), Err(2));
        assert_eq!(play(&["put k -"], &vec![0; VALUE_SIZE_MAX + 1]), Err(2));
    }

    #[test]
    fn values_are_printed_raw_or_escaped() {
        assert_eq!(printed(&[r"put k 'a\xb'", "get k"]), "a\\xb\n");
        assert_eq!(printed(&[r"put k a\x00b", "get k"]), "a\\x00b\n");
        assert_eq!(printed(&[r"put k a\x00b", "get k --raw"]), "a\0b");
        assert!(printed(&[r"put k \xff", "get k --json"]).contains(r#""value_hex":"ff""#));
        assert_eq!(play(&["put k -", "get k"], b"from\nstdin").unwrap(), "from\nstdin\n");
    }

    #[test]
    fn images() {
        let sets = ["iset ff00 near", "iset FF01 'a b'", "iset 00ff far", "iset ff one-byte"];
        let get = |line: &str| printed(&[&sets[..], &[line]].concat());
        assert_eq!(get("iget ff00"), "near\n");
        assert_eq!(get("iget ff01 --raw"), "a b");
        assert_eq!(get("iget ff01 --within 1"), "0\tff01\ta b\n1\tff00\tnear\n");
        assert_eq!(get("iget ff01 --within 1024 --limit 1"), "0\tff01\ta b\n");
        assert_eq!(get("iget 0f0f --within 0"), "");
        assert!(get("iget ff00 --json").contains(r#""meta":"near""#));
        let json = get("iget ff01 --within 1 --limit 1 --json");
        let expected = r#""images":[{"distance":0,"hash":"ff01","meta":"a b"}],"more":true"#;
        assert!(json.contains(expected), "{json}");
        assert_eq!(printed(&["iset ff x", "iset ff y", "iget ff"]), "y\n");
        assert_eq!(printed(&["iset ff x", "idelete ff"]), "ok\n");
        assert_eq!(play(&["iset ff -", "iget ff"], b"from\nstdin").unwrap(), "from\nstdin\n");
        for (line, code) in [
            ("iget aa", 1),
            ("iget aa --json", 1),
            ("idelete aa", 1),
            ("iget a", 2),
            ("iget ''", 2),
            ("iget 0x", 2),
            ("iset zz v", 2),
        ] {
            assert_eq!(play(&[line], b""), Err(code), "{line}");
        }
        assert_eq!(play(&[&format!("iset {} v", "00".repeat(129))], b""), Err(2));
    }

    #[test]
    fn scans() {
        let puts = ["put a 1", "put b 2", r"put b\n 3", "put c 4"];
        let scan = |line: &str| printed(&[&puts[..], &[line]].concat());
        assert_eq!(scan("scan"), "a\t1\nb\t2\nb\\n\t3\nc\t4\n");
        assert_eq!(scan("scan b --keys"), "b\nb\\n\n");
        assert_eq!(scan("scan --from b --to c --limit 1"), "b\t2\n");
        let json = scan("scan a --json");
        assert!(json.contains(r#""entries":[{"key":"a","value":"1"}]"#), "{json}");
    }
}
