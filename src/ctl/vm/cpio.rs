//! The archive that the kernel unpacks into its first root: cpio in the "newc" format.
//! <https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html>

use std::io::{self, Write};

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Headers, names and contents start at multiples of this.
const ALIGN: usize = 4;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Writes entries in the order in which they come; a directory must come before what is in it.
/// Everything belongs to root and was last changed in 1970: the same contents give the same bytes.
pub struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Archive { out, entries: 0 }
    }

    pub fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, DIRECTORY | mode, (0, 0), b"")
    }

    pub fn file(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, (0, 0), contents)
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    pub fn character_device(&mut self, name: &str, mode: u32, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | mode, (major, minor), b"")
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.entry(TRAILER, 0, (0, 0), b"")?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), contents: &[u8]) -> io::Result<()> {
        let size =
            u32::try_from(contents.len()).map_err(|_| io::Error::other(format!("{name} is larger than the format can say (4 GiB)")))?;
        // Numbers of files that have only one name do not matter, but the kernel links entries that share one.
        self.entries += 1;
        let number = self.entries;
        let (uid, gid, links, time, device, check) = (0, 0, 1, 0, 0, 0);
        let name_size = name.len() as u32 + 1;
        let fields = [number, mode, uid, gid, links, time, size, device, device, major, minor, name_size, check];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.out.write_all(header.as_bytes())?;
        self.pad(header.len())?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; ALIGN][..written.next_multiple_of(ALIGN) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_kernel_reads() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.directory("etc", 0o755).unwrap();
        archive.file("etc/x", 0o644, b"hello").unwrap();
        archive.finish().unwrap();
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        assert_eq!(bytes.len() % ALIGN, 0);
        let text = String::from_utf8_lossy(&bytes);
        // Header of 110 bytes, "etc\0", no contents; then the file at a multiple of four.
        assert_eq!(&text[116..122], "070701");
        assert!(text.contains("etc/x\0hello\0\0\x00070701") && text.contains(TRAILER));
    }
}
