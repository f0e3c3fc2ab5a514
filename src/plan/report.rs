//! The three facts that come back up out of a cell.

use serde::{Deserialize, Serialize};

/// Written by the clone on its report pipe when a step fails; the pipe closes empty when execve succeeded.
/// On the wire: `index: u32 LE, errno: i32 LE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Index into `Plan::steps`.
    pub step: u32,
    pub errno: i32,
}

impl Report {
    pub const SIZE: usize = 8;

    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = self.step.to_le_bytes();
        let [e, f, g, h] = self.errno.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Report { step: u32::from_le_bytes([a, b, c, d]), errno: i32::from_le_bytes([e, f, g, h]) }
    }
}
