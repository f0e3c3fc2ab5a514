//! Frames: JSON objects that end with NUL (Varlink) or newline (people with socat). The answer ends as the question did.

/// Bytes of one request, without its end. The longest honest one is a unit name and some braces.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Bytes of one reply that a client is ready to read: the status of some ten thousand units.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Nul,
    Newline,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub end: End,
}

/// The peer sent more than the limit without ending its frame. Nothing after it can be trusted to start anywhere: hang up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversized;

/// Cuts a stream of bytes into frames. Holds at most one frame and one read; looks at every byte once.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already given out.
    start: usize,
    /// Bytes of `buffer` already searched for an end.
    seen: usize,
}

impl FrameReader {
    pub fn new(limit: usize) -> Self {
        FrameReader { limit, buffer: Vec::new(), start: 0, seen: 0 }
    }

    /// Takes what one read gave. Call [`next_frame`](Self::next_frame) until it gives `None` before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * bytes.len() {
            self.buffer = Vec::new(); // An idle connection keeps no memory of its longest frame.
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` when more bytes are needed. Empty frames (a lone newline) are passed over.
    pub fn next_frame(&mut self) -> Option<Result<Frame, Oversized>> {
        loop {
            let Some(length) = self.buffer[self.seen..].iter().position(|b| matches!(b, 0 | b'\n')) else {
                self.seen = self.buffer.len();
                return (self.seen - self.start > self.limit).then_some(Err(Oversized));
            };
            let end = self.seen + length;
            let frame = &self.buffer[self.start..end];
            if frame.len() > self.limit {
                return Some(Err(Oversized));
            }
            let blank = frame.trim_ascii().is_empty();
            let frame = (!blank).then(|| Frame { bytes: frame.to_vec(), end: if self.buffer[end] == 0 { End::Nul } else { End::Newline } });
            self.start = end + 1;
            self.seen = self.start;
            if let Some(frame) = frame {
                return Some(Ok(frame));
            }
        }
    }

    /// Whether a frame has begun and not ended: the peer that hangs up now was cut off.
    pub fn is_partial(&self) -> bool {
        self.buffer.len() > self.start
    }
}

/// One value as one frame. `serde_json` writes no raw control characters, so the end cannot occur inside.
pub fn encode(value: &impl serde::Serialize, end: End) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_else(|e| {
        // Only a map with keys that are no text can get here, and the types of this room have none.
        format!(r#"{{"error":"org.cellinit.BadRequest","parameters":{{"reason":"unprintable reply at line {}"}}}}"#, e.line()).into_bytes()
    });
    bytes.push(match end {
        End::Nul => 0,
        End::Newline => b'\n',
    });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut FrameReader) -> Vec<Result<Frame, Oversized>> {
        let mut found = Vec::new();
        while let Some(frame) = reader.next_frame() {
            let stop = frame.is_err();
            found.push(frame);
            if stop {
                break;
            }
        }
        found
    }

    fn texts(found: Vec<Result<Frame, Oversized>>) -> Vec<(String, End)> {
        found.into_iter().map(|f| f.map(|f| (String::from_utf8(f.bytes).unwrap(), f.end)).unwrap()).collect()
    }

    #[test]
    fn both_ends_and_blank_lines() {
        let mut reader = FrameReader::new(100);
        reader.push(b"\n \r\n{1}\n{2}\0\0\n{3");
        let expected = [("{1}".to_owned(), End::Newline), ("{2}".to_owned(), End::Nul)];
        assert_eq!(texts(all(&mut reader)), expected);
        assert!(reader.is_partial());
        reader.push(b"}\0");
        assert_eq!(texts(all(&mut reader)), [("{3}".to_owned(), End::Nul)]);
        assert!(!reader.is_partial());
    }

    #[test]
    fn the_limit_is_exact() {
        for (length, fits) in [(9, true), (10, true), (11, false)] {
            let mut body = vec![b'x'; length];
            for ended in [true, false] {
                if ended {
                    body.push(0);
                }
                let mut reader = FrameReader::new(10);
                reader.push(&body);
                let found = all(&mut reader);
                assert_eq!(found.contains(&Err(Oversized)), !fits, "{length} {ended}");
                body.truncate(length);
            }
        }
    }

    /// The same stream gives the same frames however it is cut, and never more than the bound is held.
    #[test]
    fn any_cut_of_any_garbage() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..2000 {
            let limit = 1 + (next() % 40) as usize;
            let alphabet = [0, b'\n', b' ', b'{', b'}', 0xff, b'a', b'"', b'[', b'b', b'c', b'd'];
            let stream: Vec<u8> = (0..next() % 200).map(|_| alphabet[(next() % 12) as usize]).collect();
            let mut whole = FrameReader::new(limit);
            whole.push(&stream);
            let expected = all(&mut whole);

            let mut cut = FrameReader::new(limit);
            let mut found = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() && !found.contains(&Err(Oversized)) {
                let take = (1 + next() as usize % 17).min(rest.len());
                cut.push(&rest[..take]);
                rest = &rest[take..];
                found.extend(all(&mut cut));
                assert!(cut.buffer.len() <= limit + 17 || found.contains(&Err(Oversized)));
            }
            assert_eq!(found, expected, "limit {limit}, stream {stream:?}");
        }
    }
}
