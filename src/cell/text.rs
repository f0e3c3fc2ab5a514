//! Small text files of the kernel and of the host, read with a bound and line by line: mountinfo can be long, and a line of it is
//! written by whoever mounts.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

/// Of a file read whole.
const MAX_FILE: u64 = 1 << 20;
/// A longer line is skipped.
const MAX_LINE: u64 = 8 << 10;
/// Of one file; twice what fs.mount-max allows of mounts.
const MAX_LINES: usize = 200_000;

/// Line by line, each bounded; what is not UTF-8 is not ours.
pub(super) fn lines(path: impl AsRef<Path>) -> Vec<String> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let mut reader = BufReader::new(file);
    let mut lines = Vec::new();
    while lines.len() < MAX_LINES {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let whole = line.last() == Some(&b'\n') || (line.len() as u64) < MAX_LINE;
        if whole && let Ok(line) = String::from_utf8(line) {
            lines.push(line.trim_end_matches('\n').to_string());
        } else if !whole && reader.skip_until(b'\n').is_err() {
            break;
        }
    }
    lines
}

pub(super) fn words(path: impl AsRef<Path>) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map(|_| text.split_whitespace().map(ToString::to_string).collect()).unwrap_or_default()
}

pub(super) fn number<N: FromStr>(path: impl AsRef<Path>) -> Option<N> {
    words(path).first()?.parse().ok()
}
