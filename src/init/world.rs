//! What every start needs and no unit owns.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::cache::Cache;
use super::cgroup::Slice;
use super::children::Children;
use super::happening::Mail;
use super::log::Logs;
use super::pool::Pool;
use crate::cell::Launchpad;
use crate::places::TRASH;
use crate::plan::Facts;

pub struct World {
    pub facts: Rc<Facts>,
    pub slice: Rc<Slice>,
    pub children: Children,
    pub logs: Logs,
    pub mail: Mail,
    /// Compiled modules.
    pub cache: Rc<Cache>,
    /// What units start without, and the environments of their plans.
    pub shortcomings: Pool<String>,
    pub environments: Pool<(String, String)>,
    /// /dev/null, for payloads without input and streams without a log.
    pub null: File,
    /// For units without walls; none where there was no descriptor or memory for one.
    pub launchpad: Option<Rc<Launchpad>>,
    /// The payloads' streams are our own (`cellinit run`).
    pub foreground: bool,
}

impl World {
    pub fn trash(&self) -> PathBuf {
        self.facts.run_dir.join(TRASH)
    }

    pub fn open_null() -> io::Result<File> {
        File::options().read(true).write(true).open("/dev/null")
    }
}
