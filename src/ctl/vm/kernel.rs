//! A kernel to boot: the caller's, or Debian's from its package, unpacked into a cache and never installed.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::tree::about;

/// Always depends on the newest kernel of the release.
const PACKAGE: &str = "linux-image-amd64";
/// What a kernel file is called in its package.
const FILE: &str = "vmlinuz-";

/// The kernel to boot. Without a choice, the newest in the cache, or the one of Debian's archive.
pub fn find(chosen: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(kernel) = chosen {
        return if kernel.is_file() { Ok(kernel.to_owned()) } else { Err(about(kernel, io::Error::other("no kernel is there"))) };
    }
    let cache = cache()?;
    match newest(&cache) {
        Some(kernel) => Ok(kernel),
        None => fetch(&cache).map_err(|error| {
            let help = format!(
                "no kernel to boot: {error}\nfetch the package lists with `apt-get update` and try again, or name one with --kernel PATH"
            );
            io::Error::new(error.kind(), help)
        }),
    }
}

/// `/var/cache` for root, as a system service would have it; else the user's.
fn cache() -> io::Result<PathBuf> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = named.or_else(|| if is_root { Some(PathBuf::from("/var/cache")) } else { home() });
    let cache =
        base.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME says where to keep a kernel"))?.join("cellinit/kernel");
    fs::create_dir_all(&cache).map_err(|error| about(&cache, error))?;
    Ok(cache)
}

/// The one that came last.
fn newest(cache: &Path) -> Option<PathBuf> {
    let kernels = fs::read_dir(cache).ok()?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(FILE));
    kernels.max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok()).map(|entry| entry.path())
}

fn fetch(cache: &Path) -> io::Result<PathBuf> {
    let package = package()?;
    eprintln!("fetching {package} (Debian's kernel; it is unpacked into {}, not installed)", cache.display());
    // Everything happens in a folder aside; the kernel then appears in the cache at once and whole.
    let aside = tempfile::tempdir_in(cache)?;
    let kernel = download(&package, aside.path())?;
    let kept = cache.join(kernel.file_name().unwrap_or_default());
    fs::rename(&kernel, &kept).map_err(|error| about(&kept, error))?;
    Ok(kept)
}

/// The versioned package that the nameless one stands for today.
fn package() -> io::Result<String> {
    let output = run(Command::new("apt-cache").args(["depends", "--important", PACKAGE]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let depended = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depended.map(str::to_owned).next().ok_or_else(|| io::Error::other(format!("apt knows no package {PACKAGE}")))
}

fn download(package: &str, aside: &Path) -> io::Result<PathBuf> {
    run(Command::new("apt-get").args(["download", "-qq", package]).current_dir(aside))?;
    let archive = fs::read_dir(aside)?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "deb"));
    let archive = archive.ok_or_else(|| io::Error::other(format!("apt-get download {package} left no package")))?;
    // Of the package's 400 MB only the kernel is unpacked: what a cell needs is built into it.
    let mut contents = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&archive).stdout(Stdio::piped()).spawn()?;
    let contents_out = contents.stdout.take().map_or(Stdio::null(), Stdio::from);
    let unpacked = run(Command::new("tar")
        .args(["--extract", "--strip-components=2", "--wildcards", "./boot/vmlinuz-*"])
        .current_dir(aside)
        .stdin(contents_out));
    contents.wait()?;
    unpacked?;
    newest(aside).ok_or_else(|| io::Error::other(format!("{package} holds no {FILE}*")))
}

/// Runs a program to its end; its failure is an error with what it said.
fn run(command: &mut Command) -> io::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| about(Path::new(&program), error))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(io::Error::other(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}
