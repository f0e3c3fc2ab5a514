//! How a run ends: an exit code, and a cause where the guest did not choose that code itself.
//!
//! | code | what ended it |
//! |---|---|
//! | 0-255 | the guest, with its own exit code |
//! | 134 | a trap, as `wasmtime run` has it |
//! | 193 | a trap after memory was refused by `wasm.limits.memory` |
//! | 194 | out of `wasm.limits.fuel` |
//! | 195 | past `wasm.limits.deadline` |
//! | 196 | it could not be started: machine code of another engine, a grant that cannot be kept; with the cause `world`, it is made for another world than its unit is for |
//! | 197 | the host: a grant that cannot be kept, a listener that is none |
//!
//! The codes of our own lie above 128 + 64, where shells put signals, and below systemd's 200 to 243. A guest can use them too,
//! so whoever must know reads the cause, which only the host can send.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limits::Refusal;
use super::notify::Notify;
use cellinit::plan::guest::EXIT_HOST;
use cellinit::sys::process;

const EXIT_USAGE: i32 = 2;
const EXIT_TRAP: i32 = 134;
const EXIT_MEMORY: i32 = 193;
const EXIT_FUEL: i32 = 194;
const EXIT_DEADLINE: i32 = 195;
const EXIT_NOT_STARTED: i32 = 196;

/// How long last words may take to be said, where whoever should hear them may have stopped listening.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Bytes of a STATUS= text. A guest's function names may be of any length.
const MAX_STATUS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Trap,
    Memory,
    Fuel,
    Deadline,
    World,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Cause::Trap => "trap",
            Cause::Memory => "memory",
            Cause::Fuel => "fuel",
            Cause::Deadline => "deadline",
            Cause::World => "world",
        }
    }

    fn exit_code(self) -> i32 {
        match self {
            Cause::Trap => EXIT_TRAP,
            Cause::Memory => EXIT_MEMORY,
            Cause::Fuel => EXIT_FUEL,
            Cause::Deadline => EXIT_DEADLINE,
            Cause::World => EXIT_NOT_STARTED,
        }
    }
}

#[derive(Debug)]
pub struct End {
    code: i32,
    cause: Option<Cause>,
    /// One line for the supervisor.
    status: Option<String>,
    /// All there is to say, for the log.
    detail: Option<String>,
}

impl End {
    /// The guest's own code. What the kernel would cut down to a success stays a failure.
    pub fn exit(code: i32) -> Self {
        let code = if code != 0 && code & 0xff == 0 { 1 } else { code };
        End { code, cause: None, status: None, detail: None }
    }

    pub fn usage(text: &str) -> Self {
        End { code: EXIT_USAGE, cause: None, status: None, detail: Some(text.into()) }
    }

    pub fn not_started(error: &Error) -> Self {
        let cause = error.is::<WrongWorld>().then_some(Cause::World);
        End { code: EXIT_NOT_STARTED, cause, status: Some(format!("{error:#}")), detail: Some(format!("{error:#}")) }
    }

    pub fn host_failure(text: String) -> Self {
        End { code: EXIT_HOST, cause: None, status: Some(text.clone()), detail: Some(text) }
    }

    pub fn deadline(text: String) -> Self {
        End { code: EXIT_DEADLINE, cause: Some(Cause::Deadline), status: Some(text.clone()), detail: Some(text) }
    }

    /// Of a verb that runs no guest.
    pub fn of(result: Result<(), Error>) -> Self {
        match result {
            Ok(()) => End::exit(0),
            Err(error) => End { code: 1, cause: None, status: None, detail: Some(format!("{error:#}")) },
        }
    }

    /// Of guest code that came back with an error. `refused` is the last memory that this guest asked for in vain.
    pub fn of_guest(error: &Error, refused: Option<Refusal>) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return End::exit(*code);
        }
        let cause = cause_of(error, refused);
        let frames = frames(error);
        let what = match (cause, refused) {
            (Cause::Fuel, _) => "wasm.limits.fuel is used up".into(),
            (Cause::Deadline, _) => "wasm.limits.deadline has passed".into(),
            (Cause::Memory, Some(refused)) => format!("{refused}; then {}", reason(error)),
            (Cause::Trap | Cause::Memory | Cause::World, _) => reason(error),
        };
        let status = match frames.iter().find(|frame| frame.named) {
            Some(frame) => format!("{what}, in {}", frame.name),
            None => what,
        };
        let trace: String = frames.iter().enumerate().map(|(i, frame)| format!("\n  {i:>2}: {}", frame.name)).collect();
        End { code: cause.exit_code(), cause: Some(cause), detail: Some(format!("{status}{trace}")), status: Some(status) }
    }

    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What goes over the notify socket.
    fn to_notify(&self) -> Option<String> {
        let status = self.status.as_ref()?;
        let mut line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.truncate(line.floor_char_boundary(MAX_STATUS));
        Some(match self.cause {
            Some(cause) => format!("X_CELLINIT_CAUSE={}\nSTATUS={line}", cause.name()),
            None => format!("STATUS={line}"),
        })
    }

    pub fn tell_and_leave(self, notify: &Notify) -> ! {
        if let Some(text) = self.to_notify() {
            notify.send(&text);
        }
        self.leave()
    }

    /// The detail goes to the log, the code to whoever waits.
    pub fn leave(self) -> ! {
        self.detail().inspect(|detail| say(detail));
        std::process::exit(self.code)
    }

    /// The same from another thread than the guest's, which may be stuck in the middle of a line with the lock of stderr in its
    /// hand, or have filled the pipe: what is left to say has its time, and then the process goes without it.
    pub fn tell_and_leave_soon(self, notify: &Notify) -> ! {
        let (code, notify) = (self.code, notify.clone());
        let (said, heard) = mpsc::sync_channel(1);
        let last_words = std::thread::Builder::new().name("last words".into()).spawn(move || {
            self.to_notify().inspect(|text| notify.send(text));
            self.detail().inspect(|detail| say(detail));
            let _ = said.send(());
        });
        if last_words.is_ok() {
            let _ = heard.recv_timeout(LAST_WORDS);
        }
        // Not exit(3), which may wait for what other threads hold.
        process::exit(code)
    }
}

/// A line on stderr. Nobody may be there to read it, which is nothing to die of.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "cell-wasm: {text}");
}

/// The guest is for something else than its unit, and will be as often as it is started.
#[derive(Debug)]
pub struct WrongWorld(pub &'static str);

/// Of one that cannot be linked.
pub const IMPORTS: WrongWorld = WrongWorld("it imports what no guest is given");

impl fmt::Display for WrongWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for WrongWorld {}

fn cause_of(error: &Error, refused: Option<Refusal>) -> Cause {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Cause::Fuel,
        Some(Trap::Interrupt) => Cause::Deadline,
        // Guests have no other way to give up: an allocator that gets nothing ends in `unreachable`.
        _ if refused.is_some() => Cause::Memory,
        _ => Cause::Trap,
    }
}

/// What wasmtime says, without the backtrace that it puts among the contexts.
fn reason(error: &Error) -> String {
    let mut reasons: Vec<String> = error.chain().map(ToString::to_string).collect();
    reasons.retain(|reason| !reason.starts_with(BACKTRACE));
    reasons.join(": ")
}

/// How [`WasmBacktrace`] begins when it is shown.
const BACKTRACE: &str = "error while executing at wasm backtrace";

struct Frame {
    name: String,
    named: bool,
}

/// Innermost first; the engine keeps twenty at most.
fn frames(error: &Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frame = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => Frame { name: format!("{:#}", rustc_demangle::demangle(name)), named: true },
        None => Frame { name: format!("function {} at {:#x}", frame.func_index(), frame.module_offset().unwrap_or(0)), named: false },
    };
    trace.frames().iter().map(frame).collect()
}
