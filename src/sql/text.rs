//! Where a statement ends: text of SQL is taken apart before it is sent, since a command is made of single statements.

/// The size of the first statement of `text` with its semicolon, or of what blank and comment comes before the end;
/// `None` if it is not whole.
///
/// A semicolon ends a statement, except in a string, a name or a comment, and except in the body of a trigger, which
/// goes to the `END` behind a semicolon.
pub fn first_statement(text: &str) -> Option<usize> {
    let mut rest = Scanner { text, at: 0 };
    // Words from the beginning, as far as they tell whether this is a trigger.
    let (mut words, mut is_trigger) = (0, false);
    // What the last two tokens were: `;` and `END`.
    let (mut after_semicolon, mut after_end) = (false, false);
    while let Some(token) = rest.next_token()? {
        if token == ";" && (!is_trigger || after_end) {
            return Some(rest.at);
        }
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        is_trigger |= match words {
            1 | 2 => is("TRIGGER"),
            _ => false,
        };
        let goes_on = match words {
            0 => is("CREATE"),
            1 => is("TEMP") || is("TEMPORARY"),
            _ => false,
        };
        words = if goes_on { words + 1 } else { usize::MAX };
        after_end = after_semicolon && is("END");
        after_semicolon = token == ";";
    }
    // Nothing but blanks and comments can stand alone.
    (words == 0).then_some(text.len())
}

/// Whether nothing is there but blanks and comments.
pub fn is_blank(text: &str) -> bool {
    matches!(Scanner { text, at: 0 }.next_token(), Some(None))
}

/// The first words of a statement, at most `count`, in capitals.
pub fn first_words(text: &str, count: usize) -> Vec<String> {
    let mut rest = Scanner { text, at: 0 };
    let tokens = std::iter::from_fn(|| rest.next_token().flatten());
    tokens.take(count).map(str::to_ascii_uppercase).collect()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next token; inside `None` at the end, and `None` if the end comes within a token.
    fn next_token(&mut self) -> Option<Option<&'a str>> {
        loop {
            let rest = &self.text[self.at..];
            let Some(first) = rest.chars().next() else { return Some(None) };
            let size = match first {
                c if c.is_whitespace() => {
                    self.at += c.len_utf8();
                    continue;
                }
                '-' if rest.starts_with("--") => {
                    self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    self.at += rest[2..].find("*/")? + 4;
                    continue;
                }
                '\'' | '"' | '`' => quoted(rest, first)?,
                '[' => rest.find(']')? + 1,
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            self.at += size;
            return Some(Some(&rest[..size]));
        }
    }
}

/// The size of what begins with a quote: to the next one that is not doubled.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mut text: &str) -> (Vec<&str>, &str) {
        let mut statements = Vec::new();
        while !is_blank(text) {
            let Some(size) = first_statement(text) else { break };
            statements.push(text[..size].trim());
            text = &text[size..];
        }
        (statements, text)
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_in_something() {
        let text =
            "SELECT ';'; -- a;b\n INSERT INTO \"x;y\" VALUES ('it''s;'); /* ; */ [a;b]; SELECT";
        let (statements, rest) = split(text);
        assert_eq!(
            statements,
            ["SELECT ';';", "-- a;b\n INSERT INTO \"x;y\" VALUES ('it''s;');", "/* ; */ [a;b];"]
        );
        assert_eq!(rest, " SELECT");
        assert!(first_statement("SELECT 'a;").is_none() && first_statement("/* a;").is_none());
        assert!(is_blank(" -- nothing\n /* */ ") && !is_blank("x"));
    }

    #[test]
    fn a_trigger_goes_to_its_end() {
        let trigger = "create temp trigger t after insert on u begin \
                       select case when 1 then 2 end; select 3; END;";
        assert_eq!(first_statement(trigger), Some(trigger.len()));
        let (statements, rest) = split("CREATE TRIGGER t BEGIN DELETE FROM u; END; SELECT 1;");
        assert_eq!(statements, ["CREATE TRIGGER t BEGIN DELETE FROM u; END;", "SELECT 1;"]);
        assert_eq!(rest, "");
        assert!(first_statement("CREATE TRIGGER t BEGIN DELETE FROM u;").is_none());
        assert_eq!(first_words("/* x */ create  table t", 2), ["CREATE", "TABLE"]);
    }
}
