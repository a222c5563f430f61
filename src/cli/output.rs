//! How keys, values and replies are shown, to people and to scripts.
//!
//! Text that can be printed is printed as it is. Anything else is escaped as a whole (`\xNN`, and a
//! backslash doubled), in the form that the shell reads back. JSON is exact: a field `value` holds
//! text, and where the bytes are no UTF-8, `value_hex` stands in its place.

use std::fmt::Write;
use std::io;

use serde_json::{Map, Value, json};

use super::Failure;
use crate::client::Answer;

/// Longest piece of a value that an error message quotes, in characters.
const QUOTE_MAX: usize = 64;

/// All that a command has to say, at once.
pub fn print(out: &mut dyn io::Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// A key or value on a line of its own fields: no newline, no tab.
pub fn field(bytes: &[u8]) -> String {
    show(bytes, |_| false)
}

/// A value on its own: may have several lines.
pub fn text(bytes: &[u8]) -> String {
    show(bytes, |c| c == '\n' || c == '\t')
}

/// A key or value inside a message.
pub fn quote(bytes: &[u8]) -> String {
    let whole = field(bytes);
    match whole.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{:?}…", &whole[..end]),
        // `Debug` would double the backslashes that `field` wrote.
        None => format!("\"{whole}\""),
    }
}

fn show(bytes: &[u8], also_printed: impl Fn(char) -> bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || also_printed(c)) => text.to_owned(),
        _ => escape(bytes),
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    escape_bytes(c.encode_utf8(&mut utf8).as_bytes(), &mut out);
                }
                c => out.push(c),
            }
        }
        escape_bytes(chunk.invalid(), &mut out);
    }
    out
}

fn escape_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("memory takes all that is written");
    }
}

/// Sets `name` to text, or `name_hex` to what is none.
pub fn json_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), json!(text)),
        Err(_) => object.insert(format!("{name}_hex"), json!(hex(bytes))),
    };
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is common to all replies.
pub fn json_answer(answer: &Answer, ok: bool) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ok".to_owned(), json!(ok));
    object.insert("slot".to_owned(), json!(answer.slot.0));
    object.insert("ballot".to_owned(), json!(answer.ballot.to_string()));
    object.insert("node".to_owned(), json!(answer.node.0));
    object
}

/// The same in words.
pub fn decided(answer: &Answer) -> String {
    format!("slot {} ballot {} from {}", answer.slot, answer.ballot, answer.node)
}

/// Text as one line: what is no printable character becomes a blank, and blanks are not repeated.
pub fn one_line(text: &str) -> String {
    let clean = text.split(|c: char| c.is_whitespace() || c.is_control());
    clean.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_left_alone() {
        assert_eq!(field("größe C:\\x".as_bytes()), "größe C:\\x");
        assert_eq!(text(b"two\nlines"), "two\nlines");
        assert_eq!(field(b""), "");
    }

    #[test]
    fn anything_else_is_escaped() {
        assert_eq!(field(b"two\nlines"), "two\\nlines");
        assert_eq!(field(b"a\\b\0"), "a\\\\b\\x00");
        assert_eq!(text(b"\xff\xc3\xa4"), "\\xffä");
        assert_eq!(text("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    #[test]
    fn json_is_exact() {
        let mut object = Map::new();
        json_bytes(&mut object, "value", b"a\n");
        json_bytes(&mut object, "other", b"\xff\x01");
        assert_eq!(Value::Object(object).to_string(), r#"{"other_hex":"ff01","value":"a\n"}"#);
    }

    #[test]
    fn messages_are_one_short_line() {
        assert_eq!(one_line("a\n\n  b\tc\u{7}"), "a b c");
        assert!(quote(&[b'x'; 500]).chars().count() < 80);
        assert_eq!(quote(b"k\n"), "\"k\\n\"");
    }
}
