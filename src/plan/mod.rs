//! PURE: a [`Unit`](crate::unit::Unit) plus [`Facts`] about this host becomes a [`Plan`]: the complete, printable list of what
//! the kernel will be asked. The plan is the only thing that crosses into the cell.

mod facts;
pub mod guest;
mod report;
mod step;

pub use facts::*;
pub use report::*;
pub use step::*;
