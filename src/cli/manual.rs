//! A manual, and the command line by it: what `--help` prints is what can be typed.
//!
//! A page is the help of one command. Its usage says which words the command takes, and which options it
//! cannot do without; the line of an option says how it is spelt, whether it has a value, and which one if
//! none is given: `[default: 5s]`, unless that is prose. So help and parser never disagree. What a value may
//! be, and which options exclude each other, is for who reads them (`args.rs`).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Pages, each below a line `=== NAME`. A line `@OTHER` on a page stands for the page of that name.
#[derive(Clone, Copy)]
pub struct Manual(pub &'static str);

/// That of `loggos`.
pub const MANUAL: Manual = Manual(include_str!("manual.txt"));

/// The help of one command.
#[derive(Clone)]
pub struct Page {
    /// The program and the command, as they are typed.
    pub name: &'static str,
    parts: Vec<&'static str>,
    /// For a command of the shell: without the options of connections, and `--help`.
    in_shell: bool,
}

/// What a page says of one option, or of one word behind the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Definition {
    short: Option<char>,
    /// `--nodes`, `<KEY>`, `[BY]` or `<PATH>...`.
    name: &'static str,
    /// With its value, as in `--nodes <ADDR>`.
    label: &'static str,
    default: Option<&'static str>,
    required: bool,
}

/// What was typed.
pub enum Typed {
    /// Something that only had to be printed.
    Asked(String),
    Line(Line),
}

/// A command with its options and words: all that it needs is there, and all that is there it knows.
pub struct Line {
    page: Page,
    definitions: Vec<Definition>,
    given: Vec<(&'static str, OsString)>,
}

/// How alike two words must be for one to be taken for a misspelt other one; 1 is the same.
const SIMILAR_MIN: f64 = 0.7;

impl Manual {
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let text: &'static str = self.0;
        text.lines().filter_map(|line| line.strip_prefix("=== ")).filter(|it| !it.starts_with('@'))
    }

    fn text(self, name: &str) -> Option<(&'static str, &'static str)> {
        let pages = self.0.strip_prefix("=== ")?.split("\n=== ");
        pages.filter_map(|page| page.split_once('\n')).find(|(heading, _)| *heading == name)
    }

    pub fn page(self, name: &str) -> Option<Page> {
        let (name, mut rest) = self.text(name)?;
        let mut parts = Vec::new();
        while let Some(at) = rest.find("\n@") {
            let (before, marked) = rest.split_at(at + 1);
            let (other, after) = marked.split_once('\n').unwrap_or((marked, ""));
            let (_, part) = self.text(other)?;
            parts.extend([before, part]);
            rest = after;
        }
        parts.push(rest);
        Some(Page { name, parts, in_shell: false })
    }

    /// Understands a command line, without the name of the program, which is that of its first page.
    pub fn parse(self, program: &str, args: Vec<OsString>) -> Result<Typed, String> {
        let mut args = VecDeque::from(args);
        let mut page = self.page(program).expect("the program has a page");
        while let Some(word) = args.front().filter(|it| !is_option(it)) {
            let commands = page.commands();
            if commands.is_empty() {
                break;
            }
            page = match commands.iter().find(|it| word == **it) {
                Some(name) => self.page(&format!("{} {name}", page.name)).expect("it is listed"),
                None => return Err(no_command(word, &commands)),
            };
            args.pop_front();
        }
        page.parse(args)
    }
}

impl Page {
    /// As the shell has it.
    pub fn in_shell(mut self) -> Page {
        self.parts.truncate(1);
        self.in_shell = true;
        self
    }

    fn lines(&self) -> impl Iterator<Item = &'static str> {
        let hidden = |line: &&str| self.in_shell && line.starts_with("  -h, --help ");
        self.parts.iter().flat_map(|part| part.lines()).filter(move |line| !hidden(line))
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines() {
            match line.strip_prefix("Usage: loggos ") {
                Some(usage) if self.in_shell => text.extend(["Usage: ", usage]),
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }

    /// What it is for, in one line.
    pub fn about(&self) -> &'static str {
        self.lines().next().unwrap_or("")
    }

    fn usage(&self) -> String {
        let lines = self.lines().skip_while(|line| !line.starts_with("Usage: "));
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The commands below this one, by name.
    pub fn commands(&self) -> Vec<&'static str> {
        let lines = self.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
            line.strip_prefix("  ").filter(|it| it.starts_with(|c: char| c.is_ascii_lowercase()))
        });
        listed.map(|line| line.split(' ').next().unwrap_or(line)).collect()
    }

    /// What a line must hold, as the usage has it.
    pub fn demanded(&self) -> Vec<&'static str> {
        let definitions = self.definitions().into_iter().filter(|it| it.required);
        definitions.map(|it| it.label).collect()
    }

    fn definitions(&self) -> Vec<Definition> {
        let usage = self.usage();
        let mut definitions: Vec<Definition> = Vec::new();
        for line in self.lines() {
            let spelt = line.trim_start().split("  ").next().unwrap_or("");
            let is_option = line.starts_with("  -") || line.starts_with("      --");
            if is_option || line.starts_with("  <") || line.starts_with("  [") {
                let (short, label) = match spelt.split_once(", ") {
                    Some((short, label)) if is_option => (short.chars().nth(1), label),
                    _ => (None, spelt),
                };
                let name = label.split(' ').next().unwrap_or(label);
                let required = !label.starts_with('[') && usage.contains(label);
                definitions.push(Definition { short, name, label, default: None, required });
            }
            let default = line.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
            if let (Some((default, _)), Some(last)) = (default, definitions.last_mut()) {
                last.default = Some(default).filter(|it| !it.contains(' '));
            }
        }
        definitions
    }

    /// Understands what was typed behind the name of this command.
    pub fn parse(self, mut args: VecDeque<OsString>) -> Result<Typed, String> {
        let mut line = Line { definitions: self.definitions(), page: self, given: Vec::new() };
        let mut only_words = false;
        while let Some(arg) = args.pop_front() {
            if only_words || !is_option(&arg) || (is_number(&arg) && line.next_word().is_some()) {
                line.word(arg)?;
            } else if arg == "--" {
                only_words = true;
            } else if let Some((name, value)) = split_long(&arg) {
                let definition = line.option(&name, |it| it.name == name)?;
                line.give(definition, value, &mut args)?;
            } else {
                line.letters(&arg.as_bytes()[1..], &mut args)?;
            }
            if line.is_given("--help") {
                return Ok(Typed::Asked(line.page.text()));
            }
            if line.is_given("--version") {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Typed::Asked(format!("{} {version}\n", line.page.name)));
            }
        }
        line.complete()
    }
}

impl Definition {
    fn is_word(&self) -> bool {
        !self.name.starts_with('-')
    }

    fn takes_value(&self) -> bool {
        self.is_word() || self.name != self.label
    }
}

impl Line {
    /// The command, without the program.
    pub fn command(&self) -> &'static str {
        self.page.name.split_once(' ').map_or("", |(_, command)| command)
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// What was given under this name, as often as it was.
    pub fn all(&self, name: &str) -> Vec<OsString> {
        let given = self.given.iter().filter(|(given, _)| *given == name);
        given.map(|(_, value)| value.clone()).collect()
    }

    /// The value under this name, any bytes.
    pub fn bytes(&self, name: &str) -> Option<OsString> {
        let definition = self.definition(name);
        self.all(name).pop().or(definition.default.map(OsString::from))
    }

    /// The value under this name, as `parse` understands it.
    pub fn value<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        let Some(text) = self.utf8(name)? else { return Ok(None) };
        match parse(&text) {
            Ok(value) => Ok(Some(value)),
            Err(why) => Err(self.invalid(name, &text, &why)),
        }
    }

    /// The same where the page demands one, or has a default.
    pub fn needed<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, String> {
        Ok(self.value(name, parse)?.expect("the page demands it or has a default"))
    }

    pub fn exclude(&self, name: &str, other: &str) -> Result<(), String> {
        if self.is_given(name) && self.is_given(other) {
            let (label, other) = (self.definition(name).label, self.definition(other).label);
            return Err(format!("the argument '{label}' cannot be used with '{other}'"));
        }
        Ok(())
    }

    fn utf8(&self, name: &str) -> Result<Option<String>, String> {
        let text = self.bytes(name).map(OsString::into_string).transpose();
        text.map_err(|bytes| self.invalid(name, &bytes.to_string_lossy(), &"it is not UTF-8"))
    }

    fn invalid(&self, name: &str, text: &str, why: &dyn Display) -> String {
        format!("invalid value '{text}' for '{}': {why}", self.definition(name).label)
    }

    fn definition(&self, name: &str) -> Definition {
        let definition = self.definitions.iter().find(|it| it.name == name);
        *definition.unwrap_or_else(|| panic!("{name} is not on the page of {}", self.page.name))
    }

    /// Where the next word belongs.
    fn next_word(&self) -> Option<Definition> {
        let free = |it: &&Definition| it.name.ends_with("...") || !self.is_given(it.name);
        self.definitions.iter().filter(|it| it.is_word()).find(free).copied()
    }

    fn word(&mut self, word: OsString) -> Result<(), String> {
        let Some(definition) = self.next_word() else {
            if self.page.commands().iter().any(|command| word == **command) {
                let word = word.to_string_lossy();
                return Err(format!("the subcommand '{word}' takes no options before it"));
            }
            return Err(format!("unexpected argument '{}' found", word.to_string_lossy()));
        };
        self.given.push((definition.name, word));
        Ok(())
    }

    /// The option that was `typed`.
    fn option(
        &self,
        typed: &str,
        is_it: impl Fn(&Definition) -> bool,
    ) -> Result<Definition, String> {
        let mut options = self.definitions.iter().filter(|it| !it.is_word());
        if let Some(definition) = options.clone().find(|it| is_it(it)) {
            return Ok(*definition);
        }
        let tip = match similar(typed, &mut options.by_ref().map(|it| it.name)) {
            Some(name) => format!(" - tip: a similar argument exists: '{name}'"),
            None if self.definitions.iter().any(Definition::is_word) => {
                format!(" - tip: to pass '{typed}' as a value, use '-- {typed}'")
            }
            None => String::new(),
        };
        Err(format!("unexpected argument '{typed}' found{tip}"))
    }

    /// Options by their letters, the last one perhaps with its value: `-q`, `-qc4`, `-c=4`, `-c 4`.
    fn letters(&mut self, mut letters: &[u8], args: &mut VecDeque<OsString>) -> Result<(), String> {
        while let Some((letter, rest)) = letters.split_first() {
            let letter = char::from(*letter);
            let definition = self.option(&format!("-{letter}"), |it| it.short == Some(letter))?;
            let takes_rest = definition.takes_value() && !rest.is_empty();
            let value = rest.strip_prefix(b"=").unwrap_or(rest);
            self.give(definition, takes_rest.then(|| OsString::from_vec(value.to_vec())), args)?;
            letters = if takes_rest { &[] } else { rest };
        }
        Ok(())
    }

    /// Takes an option, and its value from `args` if it did not come with it.
    fn give(
        &mut self,
        definition: Definition,
        value: Option<OsString>,
        args: &mut VecDeque<OsString>,
    ) -> Result<(), String> {
        let Definition { name, label, .. } = definition;
        if self.is_given(name) {
            return Err(format!("the argument '{label}' cannot be used multiple times"));
        }
        let value = match value {
            Some(value) if !definition.takes_value() => {
                let value = value.to_string_lossy();
                return Err(format!(
                    "unexpected value '{value}' for '{name}' found; no more were expected"
                ));
            }
            Some(value) => value,
            None if !definition.takes_value() => OsString::new(),
            None => match args.front().filter(|it| !is_option(it) || is_number(it)) {
                Some(_) => args.pop_front().expect("it was there"),
                None => {
                    return Err(format!("a value is required for '{label}' but none was supplied"));
                }
            },
        };
        self.given.push((name, value));
        Ok(())
    }

    fn complete(self) -> Result<Typed, String> {
        if !self.page.commands().is_empty() && !self.page.usage().contains("[OPTIONS]") {
            return Err("a command is missing".to_owned());
        }
        let missing = self.definitions.iter().filter(|it| it.required && !self.is_given(it.name));
        let missing: Vec<&str> = missing.map(|it| it.label).collect();
        if !missing.is_empty() {
            let missing = missing.join("; ");
            return Err(format!("the following required arguments were not provided: {missing}"));
        }
        Ok(Typed::Line(self))
    }
}

fn is_option(arg: &OsStr) -> bool {
    arg.as_bytes().starts_with(b"-") && arg != "-"
}

fn is_number(arg: &OsStr) -> bool {
    let text = arg.to_str().unwrap_or("");
    text.contains(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// `--name` or `--name=value`.
fn split_long(arg: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = arg.as_bytes();
    if !bytes.starts_with(b"--") {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'=');
    let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned();
    Some((name, end.map(|end| OsString::from_vec(bytes[end + 1..].to_vec()))))
}

/// The one of `names` that was probably meant.
pub fn similar<'a>(typed: &str, names: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    // Hyphens make options more alike than they are.
    let bare = |name: &'_ str| name.trim_start_matches('-').to_owned();
    let rated = names.map(|name| (strsim::jaro(&bare(typed), &bare(name)), name));
    let likely = rated.filter(|(likeness, _)| SIMILAR_MIN < *likeness);
    likely.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// What to say of a command that there is not.
pub fn no_command(typed: &OsStr, commands: &[&str]) -> String {
    let typed = typed.to_string_lossy();
    let tip = match similar(&typed, &mut commands.iter().copied()) {
        Some(name) => format!(" - tip: a similar subcommand exists: '{name}'"),
        None => String::new(),
    };
    format!("unrecognized subcommand '{typed}'{tip}")
}

/// A whole number from `min` to `max`.
pub fn integer_in(min: u16, max: u16) -> impl Fn(&str) -> Result<u16, String> {
    move |text| match text.parse::<i64>() {
        Ok(number) => match u16::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("{number} is not in {min}..={max}")),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// One of some words.
pub fn one_of<T: Copy>(words: &[(&'static str, T)], text: &str) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names = || words.iter().map(|(word, _)| *word);
    let tip = match similar(text, &mut names()) {
        Some(word) => format!(" - tip: a similar value exists: '{word}'"),
        None => String::new(),
    };
    Err(format!("[possible values: {}]{tip}", names().collect::<Vec<_>>().join(", ")))
}
