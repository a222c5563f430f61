//! Redis: RESP, pipelined. `SET` and `GET`; replies come in the order of the requests.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::io::Write;

use crate::protocol::{InOrder, Outcome, Protocol, Reply, Request, Unsent};

/// A line that is longer is no line; a value that is larger is none of ours.
const LINE_SIZE_MAX: usize = 64 << 10;
const BULK_SIZE_MAX: usize = 64 << 20;
/// First words of errors that say: nothing was done, and another node may do it.
const NOT_HERE: [&str; 7] =
    ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "NOREPLICAS", "TRYAGAIN"];

#[derive(Default)]
pub struct Redis {
    is_ready: bool,
    /// Tickets, and whether each asks who leads.
    waiting: InOrder<(u32, bool)>,
}

impl Protocol for Redis {
    fn greet(&mut self, out: &mut Vec<u8>) {
        command(&[b"PING"], out);
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn request(
        &mut self,
        ticket: u32,
        request: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsent> {
        match request {
            Request::Create { key, value } | Request::Put { key, value } => {
                command(&[b"SET", key, value], out);
            }
            // Whoever is asked answers; a replica's answers are old, which `--target` decides.
            Request::Get { key, .. } => command(&[b"GET", key], out),
            Request::Status => command(&[b"INFO", b"replication"], out),
        }
        self.waiting.push((ticket, matches!(request, Request::Status)));
        Ok(())
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        _: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String> {
        let mut taken = 0;
        while let Some((answer, size)) = parse(&bytes[taken..])? {
            taken += size;
            if self.is_ready {
                let (ticket, asks_who_leads) = self.waiting.pop()?;
                let outcome = match answer {
                    Answer::Error(line) => error(line),
                    Answer::Value(text) if asks_who_leads => Outcome::Leads(
                        text.split(|&byte| byte == b'\r' || byte == b'\n')
                            .any(|line| line == b"role:master"),
                    ),
                    Answer::Value(value) => Outcome::Value(Some(value.to_vec())),
                    Answer::Missing => Outcome::Value(None),
                    Answer::Well => Outcome::Done,
                };
                replies.push(Reply { ticket, outcome });
            } else if let Answer::Error(line) = answer {
                return Err(format!("Redis refuses us: {}", String::from_utf8_lossy(line)));
            } else {
                self.is_ready = true;
            }
        }
        Ok(taken)
    }
}

fn error(line: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(line).into_owned();
    if NOT_HERE.contains(&text.split(' ').next().unwrap_or_default()) {
        Outcome::NotHere(text)
    } else {
        Outcome::Refused(text)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    Well,
    Value(&'a [u8]),
    Missing,
    Error(&'a [u8]),
}

fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    let head = |sign: &str, number: usize, out: &mut Vec<u8>| {
        write!(out, "{sign}{number}\r\n").expect("memory takes all that is written");
    };
    head("*", words.len(), out);
    for word in words {
        head("$", word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The first whole answer and its size; `None`: there is more to come.
fn parse(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() <= LINE_SIZE_MAX {
            Ok(None)
        } else {
            Err("an answer of Redis without end of line".to_owned())
        };
    };
    let (line, after) = (&bytes[..end], end + 2);
    match line.split_first() {
        Some((b'+' | b':', _)) => Ok(Some((Answer::Well, after))),
        Some((b'-', message)) => Ok(Some((Answer::Error(message), after))),
        Some((b'$', b"-1")) => Ok(Some((Answer::Missing, after))),
        Some((b'$', size)) => {
            let size = std::str::from_utf8(size).ok().and_then(|text| text.parse::<usize>().ok());
            let size = size
                .filter(|&size| size <= BULK_SIZE_MAX)
                .ok_or_else(|| format!("a value of no size: {}", line.escape_ascii()))?;
            let whole = after + size + 2;
            match bytes.get(after + size..whole) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some((Answer::Value(&bytes[after..after + size]), whole))),
                Some(_) => Err("a value of Redis that does not end where it should".to_owned()),
            }
        }
        _ => Err(format!("no answer of Redis: {}", line.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(key: &[u8]) -> Request<'_> {
        Request::Get { key, may_be_stale: false }
    }

    #[test]
    fn golden_requests() {
        let mut redis = Redis::default();
        let mut out = Vec::new();
        redis.greet(&mut out);
        redis.request(1, Request::Put { key: b"k", value: b"v\r\n" }, &mut out).unwrap();
        redis.request(2, get(b"key"), &mut out).unwrap();
        let text = "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nv\r\n\r\n\
                    *2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
        assert_eq!(out, text.as_bytes());
    }

    const ANSWERS: &[u8] = b"+PONG\r\n+OK\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n:7\r\n";

    fn asked() -> Redis {
        let mut redis = Redis::default();
        for ticket in 1..=5 {
            redis.request(ticket, get(b"k"), &mut Vec::new()).unwrap();
        }
        redis
    }

    /// Wherever the stream is cut, the same replies come of it, each once.
    #[test]
    fn answers_are_taken_whole() {
        for cut in 0..ANSWERS.len() {
            let (mut redis, mut replies) = (asked(), Vec::new());
            let taken = redis.receive(&ANSWERS[..cut], &mut Vec::new(), &mut replies).unwrap();
            let rest = redis.receive(&ANSWERS[taken..], &mut Vec::new(), &mut replies).unwrap();
            assert_eq!(taken + rest, ANSWERS.len());
            let outcomes = [
                Outcome::Done,
                Outcome::Value(Some(b"a\r\n".to_vec())),
                Outcome::Value(None),
                Outcome::Refused("ERR no".to_owned()),
                Outcome::Done,
            ];
            let wanted: Vec<Reply> =
                (1..).zip(outcomes).map(|(ticket, outcome)| Reply { ticket, outcome }).collect();
            assert_eq!(replies, wanted);
        }
    }

    /// A replica does not take what a master takes, and says who it is.
    #[test]
    fn who_leads() {
        for (text, leads) in [("master", true), ("slave", false)] {
            let (mut redis, mut replies) =
                (Redis { is_ready: true, ..Redis::default() }, Vec::new());
            let mut out = Vec::new();
            redis.request(0, Request::Status, &mut out).unwrap();
            redis.request(1, Request::Put { key: b"k", value: b"v" }, &mut out).unwrap();
            assert!(out.starts_with(b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"));
            let info = format!("# Replication\r\nrole:{text}\r\nconnected_slaves:0\r\n");
            let bytes = format!("${}\r\n{info}\r\n-READONLY no\r\n", info.len());
            redis.receive(bytes.as_bytes(), &mut Vec::new(), &mut replies).unwrap();
            assert_eq!(replies[0].outcome, Outcome::Leads(leads));
            assert_eq!(replies[1].outcome, Outcome::NotHere("READONLY no".to_owned()));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            b"hello\r\n".as_slice(),
            b"\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$999999999\r\n",
            b"$1\r\nabcd",
            b"*1\r\n",
            &[b'+'; LINE_SIZE_MAX + 1],
        ] {
            let mut redis = asked();
            redis.is_ready = true;
            assert!(redis.receive(bytes, &mut Vec::new(), &mut Vec::new()).is_err(), "{bytes:?}");
        }
        let mut redis = Redis { is_ready: true, ..Redis::default() };
        let error = redis.receive(b"+OK\r\n", &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(error.contains("nobody waits"), "{error}");
        let error = Redis::default().receive(b"-NOAUTH\r\n", &mut Vec::new(), &mut Vec::new());
        assert_eq!(error, Err("Redis refuses us: NOAUTH".to_owned()));
    }
}
