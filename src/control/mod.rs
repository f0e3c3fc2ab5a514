//! PURE: what crosses the control socket: requests, replies, errors, and the frames that they come in.
//!
//! The shape is Varlink's (<https://varlink.org/Interface-Definition>): one JSON object per frame, replies in the
//! order of the calls, `more` for a call that is answered many times. `docs/control.md` describes it for people.

#![forbid(unsafe_code)]

mod error;
mod frame;
mod interface;
mod reply;
mod request;

pub use error::Error;
pub use frame::{End, Frame, FrameReader, MAX_REPLY, MAX_REQUEST, Oversized, encode};
pub use interface::{DESCRIPTION, INTERFACE, VARLINK_DESCRIPTION, VARLINK_INTERFACE};
pub use reply::{
    Answer, Cause, Event, Events, Files, Info, Interface, Link, Plan, ServiceInfo, Status, Unit, UnitFile, Units, Waiting, Why, error_text,
    reply_text,
};
pub use request::{Call, Request};

/// Where the socket is, below the run directory.
pub const SOCKET: &str = "control.sock";
/// Events kept for those who ask later, and the most that one answer to `Events` holds.
pub const EVENTS_KEPT: usize = 256;
