//! The SELinux policy of cellinit, compiled into an image.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::tree::{Tree, about};

const SOURCE: &str = include_str!("../selinux/cellinit.cil");
/// Categories; a pair of two distinct ones keeps cells apart, and `plan` deals the pairs out.
const CATEGORIES: u32 = 1024;
/// The format that Debian 12's kernel reads, and every later one.
const VERSION: &str = "33";

/// Machine code is read by cells that did not write it, and run.
const COMPILED: &str = "/var/cache/cellinit system_u:object_r:cell_cache_t:s0\n";

/// The policy, and the labels of what is not simply a part of the system: what cells may write to.
pub fn add(tree: &mut Tree, writable: &BTreeSet<String>) -> io::Result<()> {
    let labels: String = writable.iter().map(|path| format!("{path} system_u:object_r:cell_file_t:s0\n")).collect();
    tree.file("/etc/selinux/cellinit/labels", 0o600, format!("{COMPILED}{labels}"))?;
    tree.file(&format!("/etc/selinux/cellinit/policy.{VERSION}"), 0o600, compile()?)
}

fn compile() -> io::Result<Vec<u8>> {
    let scratch = tempfile::tempdir()?;
    fs::write(scratch.path().join("cellinit.cil"), format!("{SOURCE}{}", levels()))?;
    let mut secilc = Command::new("secilc");
    secilc.args(["--mls", "true", "--policyvers", VERSION, "--output", "policy", "--filecontext", "contexts", "cellinit.cil"]);
    let output = secilc.current_dir(scratch.path()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("--selinux needs secilc, which is not installed (Debian: apt-get install secilc)"),
        _ => about(Path::new("secilc"), error),
    })?;
    if !output.status.success() {
        return Err(io::Error::other(format!("secilc: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    fs::read(scratch.path().join("policy"))
}

/// What is too long to write by hand: one sensitivity with all its categories, its lowest and its highest level.
fn levels() -> String {
    let names: Vec<String> = (0..CATEGORIES).map(|number| format!("c{number}")).collect();
    let declared: String = names.iter().map(|name| format!("(category {name})\n")).collect();
    let all = format!("(range c0 c{})", CATEGORIES - 1);
    format!(
        "(sensitivity s0)\n(sensitivityorder (s0))\n{declared}(categoryorder ({}))\n(sensitivitycategory s0 {all})\n(level low (s0))\n(level high (s0 {all}))\n",
        names.join(" ")
    )
}
