//! Where the output goes: a terminal that shows colours and has a width, or a file.

use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use super::failure::Failure;

/// Columns when there is no terminal to ask.
const DEFAULT_COLUMNS: usize = 100;

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

/// Columns and rows of the terminal on standard output.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.max(1).into()),
        _ => (DEFAULT_COLUMNS, usize::MAX),
    }
}

/// Writes to standard output. A reader that has gone away (`cell logs web | head`) is no failure, but the end.
pub fn print(text: &str) -> Result<ExitCode, Failure> {
    write(text).map(|()| ExitCode::SUCCESS)
}

/// The same, for those that go on.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
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

/// What a service wrote, harmless to a terminal: control characters but tab are shown as escapes (CVE-2003-0063 and its like).
pub fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_clipped_and_made_harmless() {
        for (text, columns, expected) in [("hello", 5, "hello"), ("hello", 4, "hel…"), ("hello", 0, ""), ("grün", 4, "grün")] {
            assert_eq!(clip(text, columns), expected);
        }
        assert_eq!(harmless("a\tb\x1b[2J\r\0\u{9b}é"), "a\tb\\u{1b}[2J\\r\\u{0}\\u{9b}é");
    }
}
