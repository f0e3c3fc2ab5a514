//! What can go wrong before there is a clone. What goes wrong in it is a [`Report`](crate::plan::Report).

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::sys;

#[derive(Debug)]
pub enum Error {
    /// A system call of the supervisor's own.
    Call(sys::Error),
    /// A file that the supervisor reads, writes or makes.
    File(PathBuf, io::Error),
    /// A NUL byte in a string that the kernel is to be told.
    Nul { what: &'static str, text: String },
    /// The seccomp filter does not compile.
    Filter(String),
    /// The plan needs something that the wiring does not have.
    Unwired(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Call(error) => error.fmt(f),
            Error::File(path, error) => write!(f, "{}: {error}", path.display()),
            Error::Nul { what, text } => write!(f, "{what} {text:?} has a NUL byte in it"),
            Error::Filter(reason) => write!(f, "seccomp filter: {reason}"),
            Error::Unwired(what) => write!(f, "the plan needs {what}, and none was given"),
        }
    }
}

impl std::error::Error for Error {}

impl From<sys::Error> for Error {
    fn from(error: sys::Error) -> Self {
        Error::Call(error)
    }
}
