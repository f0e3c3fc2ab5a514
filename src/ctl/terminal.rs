//! Where the output goes: a terminal that shows colours and has a width, or a file.

use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use serde::Serialize;

use super::failure::Failure;
use crate::unit::is_harmful;
pub use crate::unit::{harmless, harmless_lines};

/// Colours, or none: <https://no-color.org>.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    pub fn for_stdout() -> Self {
        Paint(stdout().is_terminal() && wanted())
    }

    pub fn for_stderr() -> Self {
        Paint(stderr().is_terminal() && wanted())
    }

    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A state or a health, in the colour of how well things are.
    pub fn state(self, word: &str, text: &str) -> String {
        match word {
            "running" | "completed" | "healthy" => self.with("32", text),
            "waiting" | "starting" | "stopping" | "backoff" | "degraded" => self.with("33", text),
            "failed" | "unhealthy" => self.with("31", text),
            _ => self.with("2", text),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns and rows of the terminal on standard output. What is no terminal has no edge.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.max(1).into()),
        _ => (usize::MAX, usize::MAX),
    }
}

/// Writes to standard output. A reader that has gone away (`cell logs web | head`) is no failure, but the end.
pub fn print(text: &str) -> Result<ExitCode, Failure> {
    write(text).map(|()| ExitCode::SUCCESS)
}

/// The same, for those that go on.
pub fn write(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // As if by SIGPIPE, which Rust has blocked.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Failure::new("cannot write the output", e)),
    }
}

/// The beginning of a text that fits into so many columns. Counts characters: names, numbers and our own sentences are narrow.
pub fn clip(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns > 0 {
        short.push('…');
    }
    short
}

/// A value for programs, and for whoever looks at it on a terminal: what is harmful there stays in JSON's own escapes.
pub fn json(value: &impl Serialize, pretty: bool) -> Result<String, Failure> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text = text.map_err(|e| Failure::new("cannot print the answer", e))?;
    let mut safe = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        // Newlines outside of strings are the layout; inside they are escapes already. All that is harmful is in the first plane.
        match is_harmful(character) && character != '\n' {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => safe.push(character),
        }
    }
    safe.push('\n');
    Ok(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_clipped() {
        for (text, columns, expected) in [("hello", 5, "hello"), ("hello", 4, "hel…"), ("hello", 0, ""), ("grün", 4, "grün")] {
            assert_eq!(clip(text, columns), expected);
        }
    }

    #[test]
    fn json_is_harmless_and_says_the_same() {
        let text = "a\n\x1b\u{9b}\u{202e}\x7f";
        let json = json(&[text], true).unwrap();
        assert_eq!(json, "[\n  \"a\\n\\u001b\\u009b\\u202e\\u007f\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}
