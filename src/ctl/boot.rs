//! `cell boot --vm UNITS...`: these units, with cellinit as PID 1 of a virtual machine.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::initramfs::Contents;
use super::vm::kernel;
use super::vm::machine::{self, Accelerator, End, Settings};

#[derive(Debug, Args)]
pub struct Boot {
    /// Unit files, or folders of them
    #[arg(required = true)]
    units: Vec<PathBuf>,
    /// In a virtual machine: the only place where this boots anything
    #[arg(long, required = true)]
    vm: bool,
    /// The kernel to boot; Debian's, fetched as a package, if none is named
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    memory: String,
    /// How the machine's code is run
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Stop the units in order after this long
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    contents: Contents,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accel {
    /// KVM if a kernel really starts under it, else TCG
    Auto,
    Kvm,
    Tcg,
}

/// Boots, and passes the console on until the machine is off. Success is an end in order.
pub fn run(verb: &Boot) -> io::Result<ExitCode> {
    let kernel = kernel::find(verb.kernel.as_deref())?;
    let scratch = tempfile::tempdir()?;
    let image = scratch.path().join("initramfs");
    verb.contents.build(&verb.units, &image)?;
    let accelerator = match verb.accel {
        Accel::Auto => machine::best_accelerator(&kernel),
        Accel::Kvm => Accelerator::Kvm,
        Accel::Tcg => Accelerator::Tcg,
    };
    let selinux = if verb.contents.selinux { "security=selinux enforcing=1 " } else { "" };
    let settings = Settings {
        kernel,
        image,
        memory: verb.memory.clone(),
        accelerator,
        append: format!("{selinux}{}", verb.append),
        timeout: verb.timeout.map(Duration::from_secs),
        scratch: scratch.path().to_owned(),
    };
    let sentence = match machine::run(&settings, &mut io::stdout().lock())? {
        End::Ordered => return Ok(ExitCode::SUCCESS),
        End::Panic => "the kernel panicked",
        End::SwitchedOff => "asked a second time: the machine was switched off before its units had stopped",
        End::GivenUp => "the units did not stop in time, and the machine was switched off",
        End::Lost => "the machine ended without a word",
    };
    eprintln!("cell boot: {sentence}");
    Ok(ExitCode::FAILURE)
}
