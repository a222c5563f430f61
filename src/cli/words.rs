//! Splits a line of the shell into words of bytes.
//!
//! Blanks separate. `'…'` is taken as it is; in `"…"` and outside of quotes a backslash begins an
//! escape: `\n`, `\t`, `\r`, `\0`, `\xNN`, or the next character itself.

/// The words of `line`, or what is wrong with it.
pub fn split(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = line.chars();
    let mut quote = None;
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => escape(&mut rest, word.get_or_insert_default())?,
            (c, Some(open)) if c == open => quote = None,
            // Quotes make a word even if nothing is between them.
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => push(c, word.get_or_insert_default()),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quotation that begins with {open} does not end"));
    }
    words.extend(word);
    Ok(words)
}

fn escape(rest: &mut std::str::Chars<'_>, word: &mut Vec<u8>) -> Result<(), String> {
    match rest.next() {
        None => return Err("the line ends in a backslash".to_owned()),
        Some('n') => word.push(b'\n'),
        Some('t') => word.push(b'\t'),
        Some('r') => word.push(b'\r'),
        Some('0') => word.push(0),
        Some('x') => {
            let digits: Option<u32> =
                (0..2).try_fold(0, |byte, _| Some(byte * 16 + rest.next()?.to_digit(16)?));
            match digits {
                Some(byte) => word.push(byte as u8),
                None => return Err("behind \\x come two hexadecimal digits".to_owned()),
            }
        }
        Some(c) => push(c, word),
    }
    Ok(())
}

fn push(c: char, word: &mut Vec<u8>) {
    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line).unwrap()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  put  k\tv "), [&b"put"[..], b"k", b"v"]);
        assert_eq!(words(r#"put "a b" 'c "d"'"#), [&b"put"[..], b"a b", b"c \"d\""]);
        assert_eq!(words(r#"a"b c"d '' """#), [&b"ab cd"[..], b"", b""]);
        assert_eq!(words(""), Vec::<Vec<u8>>::new());
        assert_eq!(words("größe"), ["größe".as_bytes()]);
    }

    #[test]
    fn escapes() {
        assert_eq!(words(r"\xff\x00 a\ b \\ \n"), [&b"\xff\0"[..], b"a b", b"\\", b"\n"]);
        assert_eq!(words(r#""\"\x41" '\x41'"#), [&b"\"A"[..], b"\\x41"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in ["'a", "\"a", "a\\", "\\x1", "\\xzz", "\"\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
