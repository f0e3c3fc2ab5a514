//! The Wasm host as a process, without the walls around it: each world, each limit, each cause.
//! Guests come from `guests/`, built here if need be, or are written out in the text format.

#![cfg(feature = "wasm")]

mod bench;
mod command;
mod compile;
mod http;
