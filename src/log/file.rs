//! The files of one unit: `web.log`, and older ones `web.log.1`, `web.log.2`, ...

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Settings;

/// Bytes looked at from the end of a file for the last newline: a longest line and its head fit.
const TAIL: u64 = 32 * 1024;

/// The current file of `unit`.
pub fn current(directory: &Path, unit: &str) -> PathBuf {
    directory.join(format!("{unit}.log"))
}

/// The `n`th older file; 0 is the current one.
pub fn older(directory: &Path, unit: &str, n: u32) -> PathBuf {
    match n {
        0 => current(directory, unit),
        n => directory.join(format!("{unit}.log.{n}")),
    }
}

/// Appends whole lines, beginning a new file wherever one is full. The file is opened anew each time, so a thousand units
/// cost no descriptors, and a file that someone moved away is simply begun again. An error says how many bytes were kept;
/// they too are whole lines.
pub fn append(directory: &Path, unit: &str, settings: &Settings, lines: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut kept = 0;
    while kept < lines.len() {
        kept += append_some(directory, unit, settings, &lines[kept..]).map_err(|e| (kept, e))?;
    }
    Ok(())
}

/// As many of the lines as the current file has room for; at least one, so that a line longer than a file gets its own.
fn append_some(directory: &Path, unit: &str, settings: &Settings, lines: &[u8]) -> io::Result<usize> {
    let mut file = open(directory, unit)?;
    let mut size = file.metadata()?.len();
    let mut part = fitting(lines, settings.max_size.saturating_sub(size));
    if part.is_empty() {
        if size > 0 {
            drop(file);
            rotate(directory, unit, settings)?;
            file = open(directory, unit)?;
            size = file.metadata()?.len();
        }
        part = fitting(lines, settings.max_size);
    }
    if part.is_empty() {
        let first = lines.iter().position(|&b| b == b'\n').map_or(lines.len(), |at| at + 1);
        part = &lines[..first];
    }
    file.write_all(part).inspect_err(|_| {
        // A full disk takes a part of a line; the reader should not find it. If even this fails the torn line stays.
        let _ = file.set_len(size);
    })?;
    Ok(part.len())
}

/// The longest beginning of whole lines that is no longer than `room`.
fn fitting(lines: &[u8], room: u64) -> &[u8] {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    let end = lines[..room].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    &lines[..end]
}

/// Takes away a last line that has no newline. Only a writer that was killed in the middle of a write leaves one, and
/// its bytes are still in the pipe.
pub fn mend(directory: &Path, unit: &str) -> io::Result<()> {
    let mut file = match regular(OpenOptions::new().read(true).write(true), &current(directory, unit)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let size = file.metadata()?.len();
    let from = size.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let whole = match tail.iter().rposition(|&b| b == b'\n') {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => return Ok(()), // No file of ours: leave it alone.
    };
    if whole < size {
        regular(OpenOptions::new().write(true), &current(directory, unit))?.set_len(whole)?;
    }
    Ok(())
}

fn open(directory: &Path, unit: &str) -> io::Result<File> {
    regular(OpenOptions::new().append(true).create(true).mode(0o640), &current(directory, unit))
}

/// Nothing but a regular file: the writer must never wait for whoever put a FIFO or a link there.
fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let other = || io::Error::other("not a regular file");
    match options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        // A link; a FIFO that nobody reads.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => Err(other()),
        Ok(_) => Err(other()),
        Err(e) => Err(e),
    }
}

fn rotate(directory: &Path, unit: &str, settings: &Settings) -> io::Result<()> {
    let keep = settings.max_files.max(1);
    if keep == 1 {
        return std::fs::remove_file(current(directory, unit));
    }
    for n in (0..keep - 1).rev() {
        match rename(older(directory, unit, n), older(directory, unit, n + 1)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(max_size: u64, max_files: u32) -> Settings {
        Settings { max_size, max_files, rate_burst: 0, rate_interval: Duration::ZERO }
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..7 {
            append(dir.path(), "web", &settings(8, 3), format!("line{n}\n").as_bytes()).unwrap();
        }
        let read = |n| std::fs::read_to_string(older(dir.path(), "web", n)).ok();
        assert_eq!(read(0).as_deref(), Some("line6\n"));
        assert_eq!(read(1).as_deref(), Some("line5\n"));
        assert_eq!(read(2).as_deref(), Some("line4\n"));
        assert_eq!(read(3), None);
    }

    #[test]
    fn one_file_only() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            append(dir.path(), "web", &settings(8, 1), format!("line{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(current(dir.path(), "web")).unwrap(), "line2\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_lines_at_once_fill_files_to_the_brim() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "web", &settings(8, 9), b"a\nb\nc\nd\ne\nlonger than a file\nf\n").unwrap();
        let read = |n| std::fs::read_to_string(older(dir.path(), "web", n)).ok();
        let files = [Some("f\n"), Some("longer than a file\n"), Some("e\n"), Some("a\nb\nc\nd\n"), None];
        for (n, expected) in files.into_iter().enumerate() {
            assert_eq!(read(n as u32).as_deref(), expected);
        }
    }

    #[test]
    fn a_torn_line_is_mended() {
        for (before, after) in [("", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("b", "")] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(current(dir.path(), "web"), before).unwrap();
            mend(dir.path(), "web").unwrap();
            assert_eq!(std::fs::read_to_string(current(dir.path(), "web")).unwrap(), after);
        }
        mend(tempfile::tempdir().unwrap().path(), "none").unwrap();
    }
}
