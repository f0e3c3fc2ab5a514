//! What a guest imports is linked, and no more: linking all of WASI 0.2 takes a start longer than running a small guest.
//!
//! Nothing is left out that way. A component names every interface that it or one of its types needs, and guests in Python and
//! JavaScript get wasi:cli even to serve HTTP, since they name it. That a call is linked grants nothing; the context behind it does.

use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime::{Engine, Result};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p3;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi_http::p2::bindings::http as http2;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};
use wasmtime_wasi_io::bindings::wasi::io;

use super::host::Guest;

type Link = fn(&mut Linker<Guest>) -> Result<()>;

/// The interfaces of WASI 0.2. The functions of one are linked together.
const WASI2: [(&str, Link); 29] = [
    ("wasi:cli/environment", |l| cli::environment::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/exit", |l| cli::exit::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stderr", |l| cli::stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stdin", |l| cli::stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stdout", |l| cli::stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-input", |l| cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-output", |l| cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stderr", |l| cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stdin", |l| cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stdout", |l| cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:clocks/monotonic-clock", |l| clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)),
    ("wasi:clocks/wall-clock", |l| clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)),
    ("wasi:filesystem/preopens", |l| filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)),
    ("wasi:filesystem/types", |l| filesystem::types::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)),
    ("wasi:http/outgoing-handler", |l| http2::outgoing_handler::add_to_linker::<_, WasiHttp>(l, Guest::http)),
    ("wasi:http/types", |l| http2::types::add_to_linker::<_, WasiHttp>(l, &Default::default(), Guest::http)),
    ("wasi:io/error", |l| io::error::add_to_linker::<_, Io>(l, Guest::table)),
    ("wasi:io/poll", |l| io::poll::add_to_linker::<_, Io>(l, Guest::table)),
    ("wasi:io/streams", |l| io::streams::add_to_linker::<_, Io>(l, Guest::table)),
    ("wasi:random/insecure", |l| random::insecure::add_to_linker::<_, WasiRandom>(l, Guest::random)),
    ("wasi:random/insecure-seed", |l| random::insecure_seed::add_to_linker::<_, WasiRandom>(l, Guest::random)),
    ("wasi:random/random", |l| random::random::add_to_linker::<_, WasiRandom>(l, Guest::random)),
    ("wasi:sockets/instance-network", |l| sockets::instance_network::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
    ("wasi:sockets/ip-name-lookup", |l| sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
    ("wasi:sockets/network", |l| sockets::network::add_to_linker::<_, WasiSockets>(l, &Default::default(), Guest::sockets)),
    ("wasi:sockets/tcp", |l| sockets::tcp::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
    ("wasi:sockets/tcp-create-socket", |l| sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
    ("wasi:sockets/udp", |l| sockets::udp::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
    ("wasi:sockets/udp-create-socket", |l| sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, Guest::sockets)),
];

/// The packages of WASI 0.3, which are smaller.
const WASI3: [(&str, Link); 6] = [
    ("wasi:cli", p3::cli::add_to_linker),
    ("wasi:clocks", p3::clocks::add_to_linker),
    ("wasi:filesystem", p3::filesystem::add_to_linker),
    ("wasi:http", wasmtime_wasi_http::p3::add_to_linker),
    ("wasi:random", p3::random::add_to_linker),
    ("wasi:sockets", p3::sockets::add_to_linker),
];

/// What is imported and not among these is named when the guest is instantiated, which then fails.
pub fn linker(engine: &Engine, component: &Component) -> Result<Linker<Guest>> {
    let ty = component.component_type();
    let imports: Vec<(&str, &str)> = ty.imports(engine).filter_map(|(name, _)| name.split_once('@')).collect();
    let mut linker = Linker::new(engine);
    // By table and not by import: a component that was put together of others may import an interface in several releases.
    for (interface, link) in WASI2 {
        if imports.iter().any(|(name, release)| *name == interface && release.starts_with("0.2.")) {
            link(&mut linker)?;
        }
    }
    for (package, link) in WASI3 {
        let of = |name: &str| name.split_once('/').is_some_and(|(of, _)| of == package);
        if imports.iter().any(|(name, release)| of(name) && release.starts_with("0.3.")) {
            link(&mut linker)?;
        }
    }
    Ok(linker)
}

/// wasi:io knows resources only.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

#[cfg(test)]
mod tests {
    use super::super::engine::{self, Codegen};
    use super::*;

    /// A component that imports all that is in the tables, so that a name with a slip in it shows.
    #[test]
    fn every_interface_is_found_by_its_name() {
        let engine = engine::compiler(Codegen { fuel: false }).expect("an engine");
        let wasi2 = WASI2.iter().map(|(interface, _)| format!("{interface}@0.2.0"));
        let wasi3 = ["cli/stdout", "clocks/system-clock", "filesystem/preopens", "http/client", "random/random", "sockets/types"];
        let wasi3 = wasi3.iter().map(|interface| format!("wasi:{interface}@0.3.0"));
        let imports: String = wasi2.chain(wasi3).map(|name| format!("(import \"{name}\" (instance))")).collect();
        let component = wat::parse_str(format!("(component {imports})")).expect("a component");
        let component = Component::new(&engine, component).expect("compiled");
        linker(&engine, &component).and_then(|linker| linker.instantiate_pre(&component)).map(drop).expect("linked");
    }
}
