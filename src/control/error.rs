//! How a request is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// On the wire `{"error": NAME, "parameters": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Error {
    #[serde(rename = "org.cellinit.NoSuchUnit")]
    NoSuchUnit { unit: String, nearest: Option<String> },
    /// The peer is neither root nor the user that started the supervisor.
    #[serde(rename = "org.cellinit.NotAllowed")]
    NotAllowed { uid: u32 },
    /// The unit cannot be started on this host.
    #[serde(rename = "org.cellinit.NoPlan")]
    NoPlan { unit: String, reason: String },
    #[serde(rename = "org.cellinit.BadRequest")]
    BadRequest { reason: String },
    /// The frame is longer than `limit` bytes; the connection is closed after this.
    #[serde(rename = "org.cellinit.TooLarge")]
    TooLarge { limit: u64 },
    /// Every unit is being stopped: nothing can be started any more.
    #[serde(rename = "org.cellinit.ShuttingDown")]
    ShuttingDown {},
    /// There are too many connections already; the connection is closed after this.
    #[serde(rename = "org.cellinit.Busy")]
    Busy { limit: u64 },
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound { method: String },
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound { interface: String },
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter { parameter: String },
}

impl Error {
    pub fn name(&self) -> &'static str {
        match self {
            Error::NoSuchUnit { .. } => "org.cellinit.NoSuchUnit",
            Error::NotAllowed { .. } => "org.cellinit.NotAllowed",
            Error::NoPlan { .. } => "org.cellinit.NoPlan",
            Error::BadRequest { .. } => "org.cellinit.BadRequest",
            Error::TooLarge { .. } => "org.cellinit.TooLarge",
            Error::ShuttingDown {} => "org.cellinit.ShuttingDown",
            Error::Busy { .. } => "org.cellinit.Busy",
            Error::MethodNotFound { .. } => "org.varlink.service.MethodNotFound",
            Error::InterfaceNotFound { .. } => "org.varlink.service.InterfaceNotFound",
            Error::InvalidParameter { .. } => "org.varlink.service.InvalidParameter",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSuchUnit { unit, nearest: Some(nearest) } => write!(f, "there is no unit `{unit}`; did you mean `{nearest}`?"),
            Error::NoSuchUnit { unit, nearest: None } => write!(f, "there is no unit `{unit}`"),
            Error::NotAllowed { uid } => write!(f, "uid {uid} may not talk to this supervisor: only root and the user that started it may"),
            Error::NoPlan { reason, .. } => write!(f, "{reason}"),
            Error::BadRequest { reason } => write!(f, "the supervisor did not understand the request: {reason}"),
            Error::TooLarge { limit } => write!(f, "the request is longer than {limit} bytes"),
            Error::ShuttingDown {} => write!(f, "the supervisor is shutting down: nothing can be started any more"),
            Error::Busy { limit } => write!(f, "the supervisor already serves {limit} connections"),
            Error::MethodNotFound { method } => write!(f, "the supervisor knows no method `{method}`"),
            Error::InterfaceNotFound { interface } => write!(f, "the supervisor knows no interface `{interface}`"),
            Error::InvalidParameter { parameter } => write!(f, "a parameter is wrong: {parameter}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_crosses_unchanged_under_its_name() {
        for error in [
            Error::NoSuchUnit { unit: "wep".into(), nearest: Some("web".into()) },
            Error::NoSuchUnit { unit: "wep".into(), nearest: None },
            Error::NotAllowed { uid: 65534 },
            Error::NoPlan { unit: "web".into(), reason: "no".into() },
            Error::BadRequest { reason: "no".into() },
            Error::TooLarge { limit: 1 },
            Error::ShuttingDown {},
            Error::Busy { limit: 64 },
            Error::MethodNotFound { method: "m".into() },
            Error::InterfaceNotFound { interface: "i".into() },
            Error::InvalidParameter { parameter: "p".into() },
        ] {
            let value = serde_json::to_value(&error).unwrap();
            assert_eq!(value["error"], error.name());
            assert!(value["parameters"].is_object());
            assert_eq!(serde_json::from_value::<Error>(value).unwrap(), error);
        }
    }
}
