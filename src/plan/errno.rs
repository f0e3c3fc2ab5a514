//! The errnos that the steps of a plan come back with, in words.

use crate::unit::ERRNOS;

/// `ENOENT`; a number that has no name here is shown as it is.
pub fn name(errno: i32) -> String {
    match lookup(errno) {
        Some((name, _)) => name.to_string(),
        None => format!("errno {errno}"),
    }
}

/// `No such file or directory (ENOENT)`
pub fn describe(errno: i32) -> String {
    match lookup(errno) {
        Some((name, meaning)) => format!("{meaning} ({name})"),
        None => format!("errno {errno}"),
    }
}

fn lookup(errno: i32) -> Option<(&'static str, &'static str)> {
    ERRNOS.iter().find(|(number, ..)| *number == errno).map(|(_, name, meaning)| (*name, *meaning))
}
