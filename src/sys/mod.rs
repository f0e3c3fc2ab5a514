//! FLOOR: the only `unsafe`.

pub mod rights;
