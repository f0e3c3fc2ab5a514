//! A cgroup below that of a cell, for one exec probe: what the probe leaves behind, forked twice or not, goes with it and does not
//! fill the cell's limit of processes.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::{Cgroup, Error, Watch, failed, make_anew, remove_tree, write_file};

/// How long whoever was killed may take to be gone. Who sleeps in the kernel may outstay it, and what waits here is an answer.
pub const GOING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Nest(PathBuf);

impl Nest {
    /// `None` where cells have no v2 cgroup, and nothing could end whoever is in it at once.
    pub fn below(cell: &Cgroup, name: &str) -> Result<Option<Nest>, Error> {
        if cell.directory()?.is_none() {
            return Ok(None);
        }
        let path = cell.path().join(name);
        make_anew(&path)?;
        Ok(Some(Nest(path)))
    }

    /// For CLONE_INTO_CGROUP.
    pub fn directory(&self) -> Result<File, Error> {
        File::open(&self.0).map_err(failed(format!("open {}", self.0.display())))
    }

    /// Everyone in it is killed, and it is removed when they are gone. If they do not go it stays, and the next probe of this name
    /// fails because of it.
    pub async fn end(self) {
        // Mostly nobody is left.
        if fs::remove_dir(&self.0).is_ok() {
            return;
        }
        let removed = async {
            write_file(&self.0.join("cgroup.kill"), "1")?;
            // Not in time: the removal says that it is busy.
            tokio::time::timeout(GOING, Watch::Events(self.0.as_path().into()).emptied()).await.ok();
            remove_tree(&self.0)
        };
        match removed.await {
            // Its cell is gone, and it went along.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "cgroup of a probe stays")
            }
            _ => {}
        }
    }
}
