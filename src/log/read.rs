//! The reading side: the end of a log, and what is added to it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Line, file};

/// Bytes read from the end of a file at once.
const BLOCK: u64 = 64 * 1024;
/// Older files looked for; `[log] max-files` allows no more.
const MAX_FILES: u32 = 1000;

/// The last `count` lines of a unit, oldest first, and how far the current file was read (for [`Follower::new`]).
/// NotFound when the unit has no log.
pub fn last_lines(directory: &Path, unit: &str, count: usize) -> io::Result<(Vec<Line>, u64)> {
    let mut current = File::open(file::current(directory, unit))?;
    let end = current.metadata()?.len();
    let mut newest_first = Vec::new();
    let whole = tail(&mut current, end, count, &mut newest_first)?;
    for n in 1..MAX_FILES {
        if newest_first.len() >= count {
            break;
        }
        let Some(mut older) = open(&file::older(directory, unit, n))? else { break };
        let end = older.metadata()?.len();
        tail(&mut older, end, count, &mut newest_first)?;
    }
    newest_first.reverse();
    Ok((newest_first, whole))
}

/// Every line of a unit, oldest first, one at a time, until `each` fails. NotFound when the unit has no log.
pub fn each_line<E>(directory: &Path, unit: &str, mut each: impl FnMut(Line) -> Result<(), E>) -> io::Result<Result<u64, E>> {
    // Opened before any is read, so that a rotation meanwhile neither repeats nor leaves out a file.
    let mut files = vec![File::open(file::current(directory, unit))?];
    for n in 1..MAX_FILES {
        let Some(older) = open(&file::older(directory, unit, n))? else { break };
        files.push(older);
    }
    let mut whole = 0;
    for file in files.into_iter().rev() {
        whole = 0;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.by_ref().take(BLOCK).read_until(b'\n', &mut line)? > 0 {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            whole += line.len() as u64;
            if let Some(parsed) = Line::parse(text)
                && let Err(stop) = each(parsed)
            {
                return Ok(Err(stop));
            }
            line.clear();
        }
    }
    Ok(Ok(whole))
}

/// Adds the lines of `file` before `end` to `newest_first`, from the last one up, until it has `count`. Says where the last
/// whole line ends. Reads blocks from the end, so that ten lines of a gigabyte cost one block.
fn tail(file: &mut File, end: u64, count: usize, newest_first: &mut Vec<Line>) -> io::Result<u64> {
    let mut position = end;
    let mut pending = Vec::new(); // From `position` on, not yet cut into lines.
    let mut whole = None;
    while position > 0 && newest_first.len() < count {
        let from = position.saturating_sub(BLOCK);
        let mut block = vec![0; (position - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&pending);
        pending = block;
        position = from;
        if whole.is_none() {
            let Some(last) = pending.iter().rposition(|&b| b == b'\n') else { continue };
            whole = Some(position + last as u64 + 1);
            pending.truncate(last + 1);
        }
        // The first line of the block may have begun earlier, unless this is the start of the file.
        let first = if position == 0 { 0 } else { pending.iter().position(|&b| b == b'\n').map_or(pending.len(), |at| at + 1) };
        for line in pending[first..].split(|&b| b == b'\n').rev() {
            if newest_first.len() < count {
                newest_first.extend(Line::parse(line));
            }
        }
        pending.truncate(first);
    }
    Ok(whole.unwrap_or(0))
}

/// Reads what is added to a log, across rotation.
pub struct Follower {
    directory: PathBuf,
    unit: String,
    watch: Inotify,
    /// The file being read, and how far; `None` while there is none.
    file: Option<(File, u64)>,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
}

impl Follower {
    /// Follows from `position` of the current file.
    pub fn new(directory: &Path, unit: &str, position: u64) -> io::Result<Self> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // The directory, not the file: rotation is seen, and a file that is not there yet is no trouble.
        watch.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        let file = open(&file::current(directory, unit))?.map(|file| (file, position));
        Ok(Follower { directory: directory.into(), unit: unit.into(), watch, file, pending: Vec::new() })
    }

    /// Waits until something happens in the directory.
    pub fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        while let Ok(events) = self.watch.read_events() {
            if events.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The lines added since the last call.
    pub fn lines(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        // Our file may have become an older one; then everything from there up to the current one is new.
        for n in (0..self.age()?).rev() {
            self.read(&mut lines)?;
            self.pending.clear();
            self.file = open(&file::older(&self.directory, &self.unit, n))?.map(|file| (file, 0));
        }
        self.read(&mut lines)?;
        Ok(lines)
    }

    /// How many files are newer than the one being read; 1 when ours is not among them any more, or was begun anew.
    fn age(&self) -> io::Result<u32> {
        let Some((ours, position)) = &self.file else { return Ok(1) };
        let ours = ours.metadata()?;
        for n in 0..MAX_FILES {
            let Some(file) = open(&file::older(&self.directory, &self.unit, n))? else { break };
            let file = file.metadata()?;
            if (file.dev(), file.ino()) == (ours.dev(), ours.ino()) {
                return Ok(if file.len() < *position { 1 } else { n });
            }
        }
        Ok(1)
    }

    fn read(&mut self, lines: &mut Vec<Line>) -> io::Result<()> {
        let Some((file, position)) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(*position))?;
        *position += file.read_to_end(&mut self.pending)? as u64;
        let Some(last) = self.pending.iter().rposition(|&b| b == b'\n') else { return Ok(()) };
        lines.extend(self.pending[..last].split(|&b| b == b'\n').filter_map(Line::parse));
        self.pending.drain(..=last);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Settings, Stream};
    use crate::time::Utc;
    use std::time::Duration;

    fn write(directory: &Path, from: u64, to: u64, max_size: u64) {
        let settings = Settings { max_size, max_files: 100, rate_burst: 0, rate_interval: Duration::ZERO };
        for n in from..to {
            let mut line = Vec::new();
            Line::write(&mut line, &Utc(n).to_string(), Stream::Out, false, format!("line {n}").as_bytes());
            file::append(directory, "web", &settings, &line).unwrap();
        }
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.time.0).collect()
    }

    #[test]
    fn the_last_lines_through_rotated_files() {
        for max_size in [50, 300, 1 << 30] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), 0, 40, max_size);
            for count in [0, 1, 7, 39, 40, 41, 1000] {
                let (lines, _) = last_lines(dir.path(), "web", count).unwrap();
                let expected: Vec<u64> = (40 - count.min(40) as u64..40).collect();
                assert_eq!(numbers(&lines), expected, "{max_size} {count}");
            }
            let mut all = Vec::new();
            let end = each_line(dir.path(), "web", |line| {
                all.push(line);
                Ok::<_, ()>(())
            });
            let end = end.unwrap().unwrap();
            assert_eq!(numbers(&all), (0..40).collect::<Vec<_>>());
            assert_eq!(end, std::fs::metadata(file::current(dir.path(), "web")).unwrap().len());
        }
    }

    #[test]
    fn more_than_one_block() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0, 5000, 1 << 30);
        for count in [1700, 4999, 5000] {
            let (lines, _) = last_lines(dir.path(), "web", count).unwrap();
            assert_eq!(numbers(&lines), (5000 - count as u64..5000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn following_misses_nothing_across_rotation_and_half_lines() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0, 3, 200);
        let (_, position) = last_lines(dir.path(), "web", 10).unwrap();
        let mut follower = Follower::new(dir.path(), "web", position).unwrap();
        let mut seen = Vec::new();
        for (from, to) in (3..60).map(|n| (n, n + 1)).chain([(60, 90)]) {
            write(dir.path(), from, to, 200);
            seen.extend(numbers(&follower.lines().unwrap()));
        }
        assert_eq!(seen, (3..90).collect::<Vec<_>>());

        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(file::current(dir.path(), "web")).unwrap();
        file.write_all(b"1970-01-01T00:00:00.000099Z ou").unwrap();
        assert!(follower.lines().unwrap().is_empty());
        file.write_all(b"t late\n").unwrap();
        assert_eq!(numbers(&follower.lines().unwrap()), [99]);
    }

    #[test]
    fn no_log_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_lines(dir.path(), "web", 1).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
