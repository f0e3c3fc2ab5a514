//! `[env] files`: `KEY=VALUE` lines, read on the host at each start; systemd.exec(5) EnvironmentFile=.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

/// Bytes of one file, and variables taken from it.
const MAX_FILE: u64 = 64 * 1024;
const MAX_VARIABLES: usize = 1024;

/// `found` by O_PATH: what is no regular file (a FIFO that nobody writes to) is never opened.
pub fn read(found: io::Result<File>, optional: bool) -> io::Result<Vec<(String, String)>> {
    let found = match found {
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    parse(&text).map_err(|line| io::Error::other(format!("line {line} is no KEY=VALUE")))
}

/// The number of the first line that is neither a variable, nor empty, nor a comment.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(index + 1)?;
        let key = key.trim_end();
        let plain =
            key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || value.contains('\0') || variables.len() == MAX_VARIABLES {
            return Err(index + 1);
        }
        variables.push((key.to_owned(), unquote(value.trim_start()).to_owned()));
    }
    Ok(variables)
}

/// One pair of quotes around the whole value goes; nothing is expanded.
fn unquote(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>();
        for (text, expected) in [
            ("", Ok(pairs(&[]))),
            ("# c\n; d\n\nA=1\n  B_2 = x y \n", Ok(pairs(&[("A", "1"), ("B_2", "x y")]))),
            ("A=\"a b\"\nB='c'\nC=\"\nD=$A", Ok(pairs(&[("A", "a b"), ("B", "c"), ("C", "\""), ("D", "$A")]))),
            ("A=1\nnonsense", Err(2)),
            ("1A=1", Err(1)),
            ("=1", Err(1)),
            ("A B=1", Err(1)),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
