//! What may be said to a shaper that runs: a line each, answered by a line.
//!
//! ```text
//! shape FROM TO [delay_us=N] [jitter_us=N] [loss_ppm=N] [reorder_ppm=N]    ok
//! report                                                                   what was done so far, as JSON
//! ```
//!
//! What a `shape` does not name is zero. A line that is wrong is answered by `error: ` and why, and changes nothing.

use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::shape::Shape;

/// One line, understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Shape { from: Ipv4Addr, to: Ipv4Addr, shape: Shape },
    Report,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Command, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["shape", from, to, ref settings @ ..] => {
                let shape = shape(settings)?;
                shape.check()?;
                Ok(Command::Shape { from: address(from)?, to: address(to)?, shape })
            }
            ["report"] => Ok(Command::Report),
            _ => Err(format!("{line:?} is no command: shape FROM TO NAME=VALUE..., or report")),
        }
    }
}

/// An IPv4 address.
pub fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))
}

fn shape(settings: &[&str]) -> Result<Shape, String> {
    let mut shape = Shape::default();
    for setting in settings {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| format!("{setting:?} is not NAME=VALUE"))?;
        let value = value.parse().map_err(|_| format!("{setting:?}: not a whole number"))?;
        match name {
            "delay_us" => shape.delay_us = value,
            "jitter_us" => shape.jitter_us = value,
            "loss_ppm" => shape.loss_ppm = value,
            "reorder_ppm" => shape.reorder_ppm = value,
            _ => return Err(format!("{setting:?}: there is no such setting")),
        }
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        line.parse::<Command>().unwrap_err()
    }

    #[test]
    fn a_shape_is_read_and_what_it_leaves_out_is_zero() {
        let found: Command =
            "shape 10.0.0.1 10.0.1.2 delay_us=1500 loss_ppm=20000".parse().unwrap();
        let shape = Shape { delay_us: 1_500, loss_ppm: 20_000, ..Shape::default() };
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 2));
        assert_eq!(found, Command::Shape { from, to, shape });
        let all = "shape 10.0.0.1 10.0.1.2 delay_us=4 jitter_us=3 loss_ppm=2 reorder_ppm=1";
        let shape = Shape { delay_us: 4, jitter_us: 3, loss_ppm: 2, reorder_ppm: 1 };
        assert_eq!(all.parse(), Ok(Command::Shape { from, to, shape }));
        assert_eq!(" report ".parse(), Ok(Command::Report));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(refused("").contains("is no command"));
        assert!(refused("report all").contains("is no command"));
        assert_eq!(refused("shape n1 10.0.0.2"), "\"n1\" is no IPv4 address");
        assert_eq!(refused("shape 10.0.0.1 10.0.0.2 delay"), "\"delay\" is not NAME=VALUE");
        assert_eq!(
            refused("shape 10.0.0.1 10.0.0.2 delay_us=0.5"),
            "\"delay_us=0.5\": not a whole number"
        );
        assert_eq!(
            refused("shape 10.0.0.1 10.0.0.2 rate=5"),
            "\"rate=5\": there is no such setting"
        );
        assert!(refused("shape 10.0.0.1 10.0.0.2 jitter_us=1").starts_with("jitter_us is 1"));
    }
}
