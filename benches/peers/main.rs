//! `make bench`: cellinit beside its peers and beside the bare kernel calls, in one interleaved run.
//!
//! Absolute figures drift on any machine; the ratios between contenders that took turns do not. Nothing here asserts:
//! the figures are for `docs/PERFORMANCE.md` and for whoever doubts it. A peer that is not installed is named and left out.
//!
//! `cargo bench --bench peers -- [--rounds N] [cells] [wasm] [http] [restart] [many] [idle] [boot]` (everything unless named).

mod boot;
mod cells;
mod http;
mod idle;
mod many;
mod restart;
mod support;
mod wasm;

use support::Bench;

type Part = fn(&Bench) -> support::Outcome;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rounds = 60;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().and_then(|n| n.parse().ok()).ok_or("--rounds needs a number")?,
            "--bench" => {} // Cargo adds it.
            name => wanted.push(name.to_owned()),
        }
    }
    let bench = Bench::new(rounds)?;
    let parts: [(&str, Part); 7] = [
        ("cells", cells::run),
        ("wasm", wasm::run),
        ("http", http::run),
        ("restart", restart::run),
        ("many", many::run),
        ("idle", idle::run),
        ("boot", boot::run),
    ];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            part(&bench)?;
        }
    }
    Ok(())
}
