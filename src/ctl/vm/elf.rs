//! What a dynamically linked program needs before its first instruction: its loader and its libraries.

use std::path::PathBuf;

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, StringTable};

#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    pub interpreter: Option<PathBuf>,
    /// File names of libraries.
    pub libraries: Vec<String>,
    /// Folders of this file's own choosing to look in first, `$ORIGIN` as written.
    pub search: Vec<String>,
}

/// `None` when these bytes are no 64-bit ELF file.
pub fn needs(bytes: &[u8]) -> Option<Needs> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    read(header, bytes).ok()
}

fn read(header: &FileHeader64<Endianness>, bytes: &[u8]) -> object::read::Result<Needs> {
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).as_ref()));
        }
    }
    let sections = header.sections(endian, bytes)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes)? else { return Ok(needs) };
    let strings = sections.strings(endian, bytes, strings)?;
    for entry in entries {
        match entry.d_tag(endian) {
            DT_NEEDED => needs.libraries.push(text(strings, entry.d_val(endian))),
            DT_RUNPATH | DT_RPATH => needs.search.extend(text(strings, entry.d_val(endian)).split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(needs)
}

fn text(strings: StringTable<'_>, offset: u64) -> String {
    let bytes = u32::try_from(offset).ok().and_then(|offset| strings.get(offset).ok()).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_needs_a_loader_and_the_c_library() {
        let shell = needs(&std::fs::read("/bin/sh").unwrap()).unwrap();
        assert!(shell.interpreter.is_some_and(|path| path.starts_with("/lib64")));
        assert!(shell.libraries.iter().any(|name| name.starts_with("libc.so")), "{:?}", shell.libraries);
        assert_eq!(needs(b"#!/bin/sh\n"), None);
    }
}
