//! The floor: the only room with `unsafe`. Functions are named as the man pages name them.

pub mod inherited;
