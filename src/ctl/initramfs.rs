//! `cell initramfs UNITS... -o FILE`: an image that boots these units.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::vm::image::{self, Extras};

#[derive(Debug, Args)]
pub struct Initramfs {
    /// Unit files, or folders of them
    #[arg(required = true)]
    units: Vec<PathBuf>,
    /// Where the image goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    contents: Contents,
}

/// What `boot` and `initramfs` both let one say about the image.
#[derive(Debug, Args)]
pub struct Contents {
    /// Put a file or folder of this host into the image, too
    #[arg(long, value_name = "SRC[:DST]", value_parser = image::parse_addition)]
    add: Vec<(PathBuf, PathBuf)>,
    /// Compile the SELinux policy into the image (and, with boot, enforce it)
    #[arg(long)]
    pub selinux: bool,
}

impl Contents {
    /// Writes the image, and says what is not in it.
    pub fn build(&self, units: &[PathBuf], output: &std::path::Path) -> io::Result<()> {
        let units = crate::load::load(units).map_err(io::Error::other)?;
        let extras = Extras { add: self.add.clone(), selinux: self.selinux };
        for note in image::build(&units, &extras, output)? {
            eprintln!("note: {}", crate::unit::harmless(&note));
        }
        Ok(())
    }
}

pub fn run(verb: &Initramfs) -> io::Result<()> {
    verb.contents.build(&verb.units, &verb.output)
}
