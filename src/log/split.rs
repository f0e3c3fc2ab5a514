//! Bytes of a pipe are cut into lines.

/// Bytes of the longest line; what is longer goes on as another.
pub const MAX_LINE: usize = 16 * 1024;

/// A piece of a line and whether the line goes on after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub text: &'a [u8],
    pub continues: bool,
}

/// What to do with the beginning of a line whose end is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Leave it where it is.
    Keep,
    /// Take it as a piece; the line goes on.
    Piece,
    /// Take it as a line; there will be no more.
    Line,
}

/// The whole lines at the start of `bytes`, and how many bytes they and their newlines are.
pub fn split(bytes: &[u8], rest_is: Rest) -> (Vec<Piece<'_>>, usize) {
    let mut pieces = Vec::new();
    let mut taken = 0;
    while taken < bytes.len() {
        let rest = &bytes[taken..];
        let window = &rest[..rest.len().min(MAX_LINE + 1)];
        if let Some(end) = window.iter().position(|&b| b == b'\n') {
            pieces.push(Piece { text: &rest[..end], continues: false });
            taken += end + 1;
        } else if rest.len() > MAX_LINE {
            let end = character_boundary(&rest[..MAX_LINE]);
            pieces.push(Piece { text: &rest[..end], continues: true });
            taken += end;
        } else {
            if rest_is != Rest::Keep {
                pieces.push(Piece { text: rest, continues: rest_is == Rest::Piece });
                taken = bytes.len();
            }
            break;
        }
    }
    (pieces, taken)
}

/// The length of `bytes` without a UTF-8 character that its end cuts in two. Bytes that are no UTF-8 are cut anywhere.
fn character_boundary(bytes: &[u8]) -> usize {
    const LONGEST: usize = 4;
    let from = bytes.len().saturating_sub(LONGEST);
    let Some(start) = bytes[from..].iter().rposition(|&b| b & 0xc0 != 0x80).map(|at| from + at) else {
        return bytes.len();
    };
    let length = match bytes[start] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if start + length > bytes.len() && start > 0 { start } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], rest: Rest, expected: &[(&[u8], bool)], taken: usize) {
        let (pieces, n) = split(bytes, rest);
        let pieces: Vec<_> = pieces.iter().map(|p| (p.text, p.continues)).collect();
        assert_eq!((&pieces[..], n), (expected, taken));
    }

    #[test]
    fn lines() {
        check(b"", Rest::Keep, &[], 0);
        check(b"a\nb\n", Rest::Keep, &[(b"a", false), (b"b", false)], 4);
        check(b"a\nb", Rest::Keep, &[(b"a", false)], 2);
        check(b"a\nb", Rest::Line, &[(b"a", false), (b"b", false)], 3);
        check(b"a\nb", Rest::Piece, &[(b"a", false), (b"b", true)], 3);
        check(b"\n\n", Rest::Keep, &[(b"", false), (b"", false)], 2);
        check(b"\0\xff\n", Rest::Keep, &[(b"\0\xff", false)], 3);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_cut() {
        let mut line = vec![b'x'; MAX_LINE];
        check(&line, Rest::Keep, &[], 0);
        line.push(b'\n');
        check(&line, Rest::Keep, &[(&vec![b'x'; MAX_LINE], false)], MAX_LINE + 1);
    }

    #[test]
    fn a_longer_line_goes_on() {
        let line = vec![b'x'; MAX_LINE + 1];
        check(&line, Rest::Keep, &[(&line[..MAX_LINE], true)], MAX_LINE);
        check(&line, Rest::Line, &[(&line[..MAX_LINE], true), (b"x", false)], MAX_LINE + 1);
    }

    #[test]
    fn a_character_is_not_cut() {
        let mut line = vec![b'x'; MAX_LINE - 1];
        line.extend_from_slice("é and more".as_bytes());
        let (pieces, _) = split(&line, Rest::Line);
        assert_eq!(pieces[0].text.len(), MAX_LINE - 1);
        assert!(pieces[1].text.starts_with("é".as_bytes()));

        let continuation_only = vec![0x80; MAX_LINE + 5];
        let (pieces, _) = split(&continuation_only, Rest::Line);
        assert_eq!(pieces[0].text.len(), MAX_LINE);
    }
}
