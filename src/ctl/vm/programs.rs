//! Programs of this host in an image: the file, its interpreter, and the libraries that its loader will ask for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::elf;
use super::tree::Tree;

/// Where a cell's program is looked up unless its unit sets PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the loader looks without being told; ld.so(8), and Debian's multiarch folders.
const LIBRARY_FOLDERS: &[&str] = &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// The loader's index of all the others.
const LOADER_CONF: &str = "/etc/ld.so.conf.d";
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// The length of a `#!` line that the kernel reads (BINPRM_BUF_SIZE).
const MAX_SCRIPT_LINE: usize = 256;

/// Adds programs to a tree, each once.
pub struct Programs {
    done: BTreeSet<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Programs {
    pub fn new() -> Self {
        let mut libraries: Vec<PathBuf> = LIBRARY_FOLDERS.iter().map(PathBuf::from).collect();
        let configuration =
            fs::read_dir(LOADER_CONF).into_iter().flatten().flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        for text in configuration {
            libraries.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from));
        }
        Programs { done: BTreeSet::new(), libraries }
    }

    /// Takes over the program at `path` with all that it needs to start.
    pub fn add(&mut self, tree: &mut Tree, path: &Path) -> io::Result<()> {
        let mut ahead = vec![path.to_owned()];
        while let Some(path) = ahead.pop() {
            let real = tree.host(&path)?;
            if self.done.insert(real.clone()) {
                ahead.extend(self.needs(&real)?);
            }
        }
        Ok(())
    }

    /// Puts a file or a folder of this host where it is wanted; a program with what it needs to start.
    pub fn add_as(&mut self, tree: &mut Tree, from: &Path, to: &Path) -> io::Result<()> {
        tree.copy(from, to)?;
        if is_program(from) {
            for needed in self.needs(from)? {
                self.add(tree, &needed)?;
            }
        }
        Ok(())
    }

    /// Interpreters and libraries of one program or library.
    fn needs(&self, program: &Path) -> io::Result<Vec<PathBuf>> {
        let bytes = fs::read(program)?;
        if let Some(script) = bytes.strip_prefix(b"#!") {
            return Ok(interpreters(script));
        }
        let Some(needs) = elf::needs(&bytes) else { return Ok(Vec::new()) };
        let origin = program.parent().unwrap_or(Path::new("/"));
        let mut found: Vec<PathBuf> = needs.libraries.iter().filter_map(|library| self.library(library, &needs.search, origin)).collect();
        if let Some(interpreter) = needs.interpreter {
            found.push(interpreter);
            found.extend(Some(PathBuf::from(LOADER_CACHE)).filter(|cache| cache.exists()));
        }
        Ok(found)
    }

    fn library(&self, name: &str, search: &[String], origin: &Path) -> Option<PathBuf> {
        let chosen =
            search.iter().map(|folder| PathBuf::from(folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &origin.to_string_lossy())));
        chosen.chain(self.libraries.iter().cloned()).map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}

/// The file that a program's name stands for on this host.
pub fn find(name: &str, path: Option<&str>) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    path.unwrap_or(DEFAULT_PATH).split(':').map(|folder| Path::new(folder).join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The interpreter of a script, and the one that `env` would find.
fn interpreters(script: &[u8]) -> Vec<PathBuf> {
    let line = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(MAX_SCRIPT_LINE)]).into_owned();
    let mut words = line.split_whitespace();
    let Some(interpreter) = words.next() else { return Vec::new() };
    let through_env = words.next().filter(|_| interpreter.ends_with("/env")).and_then(|name| find(name, None));
    find(interpreter, None).into_iter().chain(through_env).collect()
}

/// Programs that the text of `sh -c TEXT` seems to name: its words that are programs here. A guess, and a small image
/// with one program too many is better than one too few.
pub fn named_in_shell_text(text: &str, path: Option<&str>) -> Vec<PathBuf> {
    let is_separator = |letter: char| !(letter.is_alphanumeric() || "/._+-".contains(letter));
    text.split(is_separator).filter(|word| !word.is_empty()).filter_map(|word| find(word, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_comes_with_its_loader_and_library() {
        let mut tree = Tree::default();
        Programs::new().add(&mut tree, Path::new("/bin/sh")).unwrap();
        assert!(tree.contains(Path::new("/usr/bin/sh")) && tree.contains(Path::new("/usr/bin/dash")));
        assert!(tree.contains(Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6")));
        assert!(tree.contains(Path::new("/lib64")));
    }

    #[test]
    fn words_of_a_shell_line_that_are_programs() {
        let found = named_in_shell_text("while busybox wget -q; do sleep 10; done", None);
        assert!(found.iter().any(|path| path.ends_with("sleep")) && found.iter().all(|path| !path.ends_with("while")));
        assert_eq!(interpreters(b"/usr/bin/env sh\necho"), [PathBuf::from("/usr/bin/env"), find("sh", None).unwrap()]);
    }
}
