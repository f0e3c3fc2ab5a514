//! Guests that run once and end: WASI 0.1 core modules, `wasi:cli/command` of 0.2 and 0.3.
//!
//! One thread, and a runtime that knows timers only: a guest without sockets waits for nothing else. SIGTERM keeps its default
//! action, since a guest cannot react to a signal and the process holds nothing that must be put away.

use std::convert::Infallible;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Engine, Linker, Module, Result, Store, error::Context};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{p2, p3};

use super::cause::{End, IMPORTS, WrongWorld};
use super::grants::{self, FileAccess};
use super::host::Host;
use super::limits::{self, Limiter};
use super::linker::linker;
use super::world::Speaks;

/// How long a guest past its deadline has until the process goes without it: long enough to come back from one call into
/// the host and show where it was, too short to matter.
const GRACE: Duration = Duration::from_millis(100);
/// Epochs until the deadline. The clock of epochs is moved by [`watch`] alone, so the first move is the deadline.
const DEADLINE: u64 = 1;

const READY: &str = "READY=1\nSTATUS=running";

struct CoreGuest {
    wasi: WasiP1Ctx,
    limiter: Limiter,
}

/// Comes back only if the guest could not be started.
pub fn run_module(host: &Host<'_>, module: &Module) -> Result<Infallible> {
    let mut linker = Linker::new(&host.engine);
    p1::add_to_linker_async(&mut linker, |guest: &mut CoreGuest| &mut guest.wasi)?;
    let wasi = grants::wasi(host.spec, FileAccess::OnThread)?.build_p1();
    let mut store = Store::new(&host.engine, CoreGuest { wasi, limiter: Limiter::new(&host.budget) });
    limits::bound(&mut store, host.spec.limits.fuel, |guest| &mut guest.limiter)?;
    store.set_epoch_deadline(DEADLINE);
    block_on(host, async {
        let pre = linker.instantiate_pre(module).context(IMPORTS)?;
        let instance = match pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return not_instantiated(error, store.data().limiter.refused()),
        };
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").context(WrongWorld("a command exports the function _start"))?;
        host.notify.send(READY);
        Ok(match start.call_async(&mut store, ()).await {
            Ok(()) => End::exit(0),
            Err(error) => End::of_guest(&error, store.data().limiter.refused()),
        })
    })
}

/// Comes back only if the guest could not be started.
pub fn run_component(host: &Host<'_>, component: &Component, speaks: Speaks) -> Result<Infallible> {
    let linker = linker(&host.engine, component)?;
    let mut store = host.store(FileAccess::OnThread)?;
    store.set_epoch_deadline(DEADLINE);
    block_on(host, async {
        let pre = linker.instantiate_pre(component).context(IMPORTS)?;
        let instance = match pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return not_instantiated(error, store.data().limiter.refused()),
        };
        let result = if speaks == Speaks::Command3 {
            let command = p3::bindings::Command::new(&mut store, &instance)?;
            host.notify.send(READY);
            store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await.flatten()
        } else {
            let command = p2::bindings::Command::new(&mut store, &instance)?;
            host.notify.send(READY);
            command.wasi_cli_run().call_run(&mut store).await
        };
        Ok(match result {
            Ok(Ok(())) => End::exit(0),
            Ok(Err(())) => End::exit(1),
            Err(error) => End::of_guest(&error, store.data().limiter.refused()),
        })
    })
}

/// A start function runs while the guest is instantiated and may end it like any other code; so may a memory that is too large.
fn not_instantiated(error: wasmtime::Error, refused: Option<limits::Refusal>) -> Result<End> {
    if refused.is_some() || error.is::<wasmtime::Trap>() || error.is::<wasmtime_wasi::I32Exit>() {
        return Ok(End::of_guest(&error, refused));
    }
    Err(error)
}

/// Runs to the end of the guest, and of the process: what the caller holds is left for the kernel to clear away, which takes
/// it a third of the time.
fn block_on(host: &Host<'_>, run: impl Future<Output = Result<End>>) -> Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if let Some(milliseconds) = host.spec.limits.deadline_ms {
        watch(host, Duration::from_millis(milliseconds))?;
    }
    runtime.block_on(run)?.tell_and_leave(host.notify)
}

/// Ends the run at its deadline, from a thread of its own. First by the epoch, which guest code looks at on every loop and
/// call; a guest that is then still there sits in the host or in one bulk operation, and goes with the process.
fn watch(host: &Host<'_>, deadline: Duration) -> Result<()> {
    let engine: Engine = host.engine.clone();
    let notify = host.notify.clone();
    std::thread::Builder::new().name("deadline".into()).spawn(move || {
        std::thread::sleep(deadline);
        engine.increment_epoch();
        std::thread::sleep(GRACE);
        End::deadline(format!("still running after wasm.limits.deadline = {} ms", deadline.as_millis())).tell_and_leave_soon(&notify)
    })?;
    Ok(())
}
