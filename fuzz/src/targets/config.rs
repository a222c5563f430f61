//! Text that people write: the configuration and the lines of the shell.

use loggos::cli::{duration, words as shell};
use loggos::config::{Config, Overrides};

/// A configuration: accepted, or refused in one line that names the file.
pub fn parse(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for node in [None, Some(1)] {
        let overrides = Overrides { node, ..Overrides::default() };
        match Config::parse(text, "loggos.toml", &overrides) {
            Ok(config) => {
                assert!(config.nodes.iter().any(|node| node.id == config.node));
                assert!(config.wal_segment_size % 4096 == 0);
            }
            Err(error) => {
                let line = error.to_string();
                assert!(line.contains("loggos.toml"), "{line:?} does not name the file");
                assert!(!line.contains(char::is_control), "{line:?} is not one line");
            }
        }
    }
}

/// A line of the shell, and a duration of the command line.
pub fn words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(words) = shell::split(text) {
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        assert_eq!(shell::split(&quoted.join(" ")), Ok(words));
    }
    let _ = duration::parse(text);
    if let Ok(time) = duration::parse_positive(text) {
        assert!(!time.is_zero());
    }
}

fn quote(word: &[u8]) -> String {
    let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{bytes}\"")
}
