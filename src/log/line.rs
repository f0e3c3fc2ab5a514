//! One line of a log file: `2026-11-22T10:00:00.123456Z out text`.

use serde::{Deserialize, Serialize};

use crate::time::Utc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Out,
    Err,
    /// Written by cellinit itself.
    Sys,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Out => "out",
            Stream::Err => "err",
            Stream::Sys => "sys",
        }
    }
}

/// A line as read back. The text is what the service wrote, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub time: Utc,
    pub stream: Stream,
    /// The service's line was longer than one of ours and goes on in the next line of this stream; the tag has a `+`.
    pub continues: bool,
    pub text: Vec<u8>,
}

impl Line {
    /// Appends the line with its newline to `into`.
    pub fn write(into: &mut Vec<u8>, time: &str, stream: Stream, continues: bool, text: &[u8]) {
        into.extend_from_slice(time.as_bytes());
        into.push(b' ');
        into.extend_from_slice(stream.name().as_bytes());
        into.extend_from_slice(if continues { b"+ " } else { b" " });
        into.extend_from_slice(text);
        into.push(b'\n');
    }

    /// Reads a line of a file, without its newline. `None` is a line that the writer did not write.
    pub fn parse(bytes: &[u8]) -> Option<Line> {
        let (time, rest) = bytes.split_at_checked(Utc::TEXT)?;
        let time = Utc::parse(std::str::from_utf8(time).ok()?)?;
        let rest = rest.strip_prefix(b" ")?;
        let (tag, text) = rest.split_at_checked(rest.iter().position(|&b| b == b' ')?)?;
        let (name, continues) = match tag.strip_suffix(b"+") {
            Some(name) => (name, true),
            None => (tag, false),
        };
        let stream = [Stream::Out, Stream::Err, Stream::Sys].into_iter().find(|s| s.name().as_bytes() == name)?;
        Some(Line { time, stream, continues, text: text[1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back() {
        let time = Utc(1_795_341_600_123_456);
        for (stream, continues, text) in [
            (Stream::Out, false, &b"hello"[..]),
            (Stream::Err, true, b""),
            (Stream::Sys, false, b"a b  c "),
            (Stream::Out, false, b"\xff\x00\r\x1b[31m"),
        ] {
            let mut bytes = Vec::new();
            Line::write(&mut bytes, &time.to_string(), stream, continues, text);
            assert_eq!(bytes.pop(), Some(b'\n'));
            assert_eq!(Line::parse(&bytes), Some(Line { time, stream, continues, text: text.to_vec() }));
        }
    }

    #[test]
    fn other_lines_are_none_of_ours() {
        for text in ["", "hello", "2026-11-22T10:00:00.123456Z", "2026-11-22T10:00:00.123456Z out", "2026-11-22T10:00:00.123456Z foo x"] {
            assert_eq!(Line::parse(text.as_bytes()), None, "{text}");
        }
    }
}
