//! Durations as people write them: `5s`, `500ms`, `1.5s`, `2m`; a bare number is seconds.

use std::time::Duration;

/// Longest duration that is taken: a day. Anything above is a slip of the pen, and sums of
/// durations in nanoseconds stay far from overflow.
const SECONDS_MAX: f64 = 86_400.0;

pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("the unit {unit:?} is none of us, ms, s, m, h")),
    };
    match number.parse::<f64>() {
        Ok(number) if number * scale <= SECONDS_MAX => Ok(Duration::from_secs_f64(number * scale)),
        Ok(_) => Err("longer than a day".to_owned()),
        Err(_) => Err("a duration looks like 500ms, 5s or 2m".to_owned()),
    }
}

/// A duration that is not zero.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "-1s", "1 s", "5 parsecs", "1e9", "nan", "inf", "1.2.3", "999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0ms").is_err());
    }
}
