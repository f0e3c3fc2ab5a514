//! Cells on this host's real kernel, seen from inside and from outside. As root; no wall is skipped.

mod granted;
mod history;
mod inside;
#[path = "../support/mod.rs"]
mod support;

use support::Look;

/// Not a test of its own: the payload of cells that look around.
#[test]
fn look() {
    if std::env::var_os(support::look::LOOK).is_some() {
        support::look::look();
    }
}

/// One look for the tests that only ask what a default cell sees.
fn default_cell() -> &'static Look {
    static LOOK: std::sync::OnceLock<Look> = std::sync::OnceLock::new();
    LOOK.get_or_init(|| support::look(""))
}
