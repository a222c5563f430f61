//! HPACK (RFC 7541): the headers of HTTP/2. Names and values are decoded as far as gRPC's servers use them, and
//! encoded without the Huffman code; both sides' tables are kept, so that what repeats is one byte.

use std::collections::VecDeque;

/// Of the decoder's table, which nobody was told to make another size.
pub const TABLE_SIZE: usize = 4096;
/// What an entry takes besides its bytes, by section 4.1.
const ENTRY_OVERHEAD: usize = 32;

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Writes headers, and remembers which the other side knows already.
#[derive(Default)]
pub struct Encoder {
    /// The other side's table, oldest first. What we send is far from filling it.
    sent: Vec<(&'static str, String)>,
}

impl Encoder {
    /// Adds a header to a block.
    pub fn field(&mut self, name: &'static str, value: &str, out: &mut Vec<u8>) {
        if let Some(at) = STATIC.iter().position(|&it| it == (name, value)) {
            return integer(at + 1, 7, 0x80, out);
        }
        if let Some(at) = self.sent.iter().position(|(n, v)| *n == name && v == value) {
            return integer(STATIC.len() + self.sent.len() - at, 7, 0x80, out);
        }
        let known = STATIC.iter().position(|it| it.0 == name);
        integer(known.map_or(0, |at| at + 1), 6, 0x40, out);
        if known.is_none() {
            string(name, out);
        }
        string(value, out);
        self.sent.push((name, value.to_owned()));
        let size = |(name, value): &(&str, String)| name.len() + value.len() + ENTRY_OVERHEAD;
        assert!(self.sent.iter().map(size).sum::<usize>() <= TABLE_SIZE, "our headers are few");
    }
}

/// Section 5.1: an integer behind the bits of `flags`, which leave it `bits`.
fn integer(value: usize, bits: u32, flags: u8, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(flags | value as u8);
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while 128 <= rest {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &str, out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text.as_bytes());
}

/// Reads headers.
#[derive(Default)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    /// `None`: `TABLE_SIZE`.
    size_max: Option<usize>,
}

impl Decoder {
    /// Hands the fields of a whole block to `on_field`, name and value.
    pub fn block(
        &mut self,
        block: &[u8],
        mut on_field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), String> {
        let mut at = 0;
        while let Some(&first) = block.get(at) {
            if first & 0x80 != 0 {
                let index = read_integer(block, &mut at, 7)?;
                let (name, value) = self.entry(index)?;
                on_field(name, value);
            } else if first & 0xe0 == 0x20 {
                let size = read_integer(block, &mut at, 5)?;
                if TABLE_SIZE < size {
                    return Err(format!("a header table of {size} bytes"));
                }
                self.size_max = Some(size);
                self.evict();
            } else {
                let is_kept = first & 0xc0 == 0x40;
                let index = read_integer(block, &mut at, if is_kept { 6 } else { 4 })?;
                let name = match index {
                    0 => read_string(block, &mut at)?,
                    _ => self.entry(index)?.0.to_vec(),
                };
                let value = read_string(block, &mut at)?;
                on_field(&name, &value);
                if is_kept {
                    self.size += name.len() + value.len() + ENTRY_OVERHEAD;
                    self.table.push_front((name, value));
                    self.evict();
                }
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), String> {
        let nothing = || format!("a header of number {index}, which there is not");
        let at = index.checked_sub(1).ok_or_else(nothing)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.table.get(at - STATIC.len()).ok_or_else(nothing)?;
        Ok((name, value))
    }

    fn evict(&mut self) {
        while self.size_max.unwrap_or(TABLE_SIZE) < self.size {
            let (name, value) = self.table.pop_back().expect("an empty table has no size");
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

fn cut() -> String {
    "a header block that is cut".to_owned()
}

fn read_integer(block: &[u8], at: &mut usize, bits: u32) -> Result<usize, String> {
    let most = (1 << bits) - 1;
    let mut value = usize::from(*block.get(*at).ok_or_else(cut)?) & most;
    *at += 1;
    if value < most {
        return Ok(value);
    }
    // Four more bytes are more than any length of ours.
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at).ok_or_else(cut)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number in the headers that is too large".to_owned())
}

fn read_string(block: &[u8], at: &mut usize) -> Result<Vec<u8>, String> {
    let huffman = block.get(*at).ok_or_else(cut)? & 0x80 != 0;
    let size = read_integer(block, at, 7)?;
    let bytes = block.get(*at..*at + size).ok_or_else(cut)?;
    *at += size;
    if huffman { unhuffman(bytes) } else { Ok(bytes.to_vec()) }
}

/// Appendix B: symbols by the length of their code in bits. The code is canonical: codes of one length are
/// numbered in the order of their symbols, and go on where the shorter ones ended. Codes of more than 15 bits are
/// for characters that no header of a server in its right mind has.
const HUFFMAN: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

fn unhuffman(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let bit = |at: usize| (bytes.get(at / 8).copied().unwrap_or(0xff) >> (7 - at % 8)) & 1;
    let size = bytes.len() * 8;
    let (mut at, mut text) = (0, Vec::with_capacity(bytes.len() * 8 / 5));
    'symbols: while at < size {
        let (mut code, mut length, mut first) = (0u32, 0u32, 0u32);
        for (bits, symbols) in HUFFMAN {
            while length < bits {
                code = code << 1 | u32::from(bit(at + length as usize));
                length += 1;
                first <<= 1;
            }
            if let Some(&symbol) = symbols.get((code - first) as usize) {
                at += length as usize;
                if size < at {
                    return Err(cut());
                }
                text.push(symbol);
                continue 'symbols;
            }
            first += symbols.len() as u32;
        }
        // What is left of the last byte is filled with ones, the beginning of a long code.
        return if size - at < 8 && (at..size).all(|at| bit(at) == 1) {
            Ok(text)
        } else {
            Err("a header with characters that have no place there".to_owned())
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Vec::new();
        decoder.block(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    /// The examples of appendix C.6: responses, with the Huffman code and a table that grows.
    #[test]
    fn the_examples_of_the_rfc() {
        let mut decoder = Decoder::default();
        let first =
            hex("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3");
        let want = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ];
        let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&mut decoder, &first).unwrap(), want);
        assert_eq!(decoder.size, 222);
        let second = fields(&mut decoder, &hex("4883 640e ffc1 c0bf")).unwrap();
        assert_eq!(second[0], (":status".to_owned(), "307".to_owned()));
        assert_eq!(second[1..], want[1..]);
    }

    /// The code is complete up to its long part: a code of 15 ones is left for that, and no more.
    #[test]
    fn the_code_leaves_room_for_one_prefix() {
        let used: u32 = HUFFMAN.iter().map(|(bits, of)| (of.len() as u32) << (15 - bits)).sum();
        assert_eq!(used, (1 << 15) - 1);
    }

    #[test]
    fn what_repeats_is_one_byte() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let headers = [(":method", "POST"), (":path", "/x"), ("te", "trailers"), (":path", "/y")];
        let mut block = |out: &mut Vec<u8>| {
            headers.iter().for_each(|(name, value)| encoder.field(name, value, out));
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        block(&mut first);
        block(&mut second);
        assert_eq!(first, b"\x83\x44\x02/x\x40\x02te\x08trailers\x44\x02/y");
        assert_eq!(second, [0x83, 0xc0, 0xbf, 0xbe]);
        let want = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&mut decoder, &first).unwrap(), want);
        assert_eq!(fields(&mut decoder, &second).unwrap(), want);
    }

    /// Any bytes: fields or an error. Cut anywhere: the same.
    #[test]
    fn nonsense_is_an_error() {
        for block in ["80", "be", "40", "4085", "3fe21f", "ffffffffffff7f", "00 81ff 00", "008480"]
        {
            let result = fields(&mut Decoder::default(), &hex(block));
            assert!(result.is_err(), "{block}: {result:?}");
        }
        for seed in 0..20_000u32 {
            let bytes: Vec<u8> = (1..24u32)
                .map(|i| (seed.wrapping_mul(i * i + 2_654_435_761) >> 13) as u8)
                .collect();
            let _ = fields(&mut Decoder::default(), &bytes);
        }
    }
}
