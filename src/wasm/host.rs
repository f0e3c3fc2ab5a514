//! From machine code on disk to a guest that runs.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::{Component, ResourceTable};
use wasmtime::error::Context;
use wasmtime::{Engine, Module, Precompiled, Result, Store, bail};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::cause::{End, WrongWorld};
use super::engine::{self, Codegen};
use super::grants::{self, FileAccess};
use super::limits::{self, Budget, Limiter, MAX_FIELD_BYTES, MAX_RESOURCES};
use super::notify::Notify;
use super::world::{self, Speaks};
use super::{command, http};
use cellinit::plan::guest::GuestSpec;
use cellinit::unit::World;

pub enum Code {
    Module(Module),
    Component(Component),
}

/// Everything a run shares: one per process.
pub struct Host<'a> {
    pub engine: Engine,
    pub spec: &'a GuestSpec,
    pub budget: Arc<Budget>,
    pub notify: &'a Notify,
}

/// Ends the process when the guest ends; comes back only if it could not be started.
pub fn run(spec: &GuestSpec, artifact: &Path, notify: &Notify) -> End {
    match try_run(spec, artifact, notify) {
        Ok(never) => match never {},
        Err(error) => End::not_started(&error),
    }
}

fn try_run(spec: &GuestSpec, artifact: &Path, notify: &Notify) -> Result<Infallible> {
    let codegen = Codegen { fuel: spec.limits.fuel.is_some() };
    // Who is given a listener is a server. What does not fit into a pool, or a pool that does not fit here, does without.
    let pooled = spec.http.listen_fd.and_then(|_| {
        let engine = engine::pool(codegen, spec.http.max_concurrent).ok()?;
        let code = load(&engine, artifact).ok()?;
        Some((engine, code))
    });
    let (engine, code) = match pooled {
        Some(pooled) => pooled,
        None => {
            let engine = engine::runtime(codegen)?;
            let code = load(&engine, artifact).with_context(|| artifact.display().to_string())?;
            (engine, code)
        }
    };
    let host = Host { engine, spec, budget: Budget::new(spec.limits.memory), notify };
    let component = match code {
        Code::Module(_) if spec.world == World::Http => {
            return Err(WrongWorld("a core module has no wasi:http exports, as wasm.world = \"http\" wants").into());
        }
        Code::Module(module) => return command::run_module(&host, &module),
        Code::Component(component) => component,
    };
    match world::tell(&host.engine, &component, spec.world)? {
        speaks @ (Speaks::Command2 | Speaks::Command3) => command::run_component(&host, &component, speaks),
        speaks @ (Speaks::Http2 | Speaks::Http3) => http::serve(&host, &component, speaks),
    }
}

/// The file is told apart by its own header, not by its name.
fn load(engine: &Engine, artifact: &Path) -> Result<Code> {
    match Engine::detect_precompiled_file(artifact)? {
        Some(kind) => map_machine_code(engine, artifact, kind),
        None => bail!("this is no machine code of `cell-wasm compile`"),
    }
}

/// The one exception to "no unsafe outside of `sys`". wasmtime refuses what another version or another configuration made, and
/// maps the rest without copying.
#[expect(unsafe_code, reason = "loading machine code is what this program is for")]
fn map_machine_code(engine: &Engine, artifact: &Path, kind: Precompiled) -> Result<Code> {
    match kind {
        // SAFETY: the file is what `cell-wasm compile` wrote, and nobody has changed it since. The plan keeps that promise: the
        // supervisor alone can write to the cache, it takes an entry only from a compiler's descriptor that it opened itself,
        // renames it complete, and binds it read-only into the cell. Whoever could break this could replace this program.
        Precompiled::Module => Ok(Code::Module(unsafe { Module::deserialize_file(engine, artifact) }?)),
        // SAFETY: as above.
        Precompiled::Component => Ok(Code::Component(unsafe { Component::deserialize_file(engine, artifact) }?)),
    }
}

/// What the store of a component holds.
pub struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: NoOutgoing,
    pub limiter: Limiter,
}

impl Host<'_> {
    pub fn store(&self, files: FileAccess) -> Result<Store<Guest>> {
        store(&self.engine, self.spec, &self.budget, files)
    }
}

/// A store for one component instance.
pub fn store(engine: &Engine, spec: &GuestSpec, budget: &Arc<Budget>, files: FileAccess) -> Result<Store<Guest>> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_RESOURCES);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_FIELD_BYTES);
    let wasi = grants::wasi(spec, files)?.build();
    let mut store = Store::new(engine, Guest { wasi, http, table, outgoing: NoOutgoing, limiter: Limiter::new(budget) });
    limits::bound(&mut store, spec.limits.fuel, |guest| &mut guest.limiter)?;
    Ok(store)
}

impl Guest {
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Requests of the guest's own end here: a Wasm cell has no network but the listener that it was given.
struct NoOutgoing;

type HttpResult<T> = Result<T, wasmtime_wasi_http::Error>;
type Finished = Box<dyn Future<Output = HttpResult<()>> + Send>;

impl WasiHttpHooks for NoOutgoing {
    fn send_request(
        &mut self,
        _request: hyper::http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Finished,
    ) -> Box<dyn Future<Output = HttpResult<(hyper::http::Response<WasiBody>, Finished)>> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}
