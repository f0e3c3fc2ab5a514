//! What a client can ask.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Error;

/// One method with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `org.varlink.service.GetInfo`: what speaks here.
    ServiceInfo,
    /// `org.varlink.service.GetInterfaceDescription`.
    InterfaceDescription {
        interface: String,
    },
    /// Are you there?
    Ping,
    /// About the supervisor itself.
    GetInfo,
    /// The unit files, as they were when they were read.
    Files,
    /// Every unit, in the order of names.
    List,
    /// One unit with its walls as the kernel shows them.
    Status {
        unit: String,
    },
    Start {
        unit: String,
    },
    Stop {
        unit: String,
    },
    Restart {
        unit: String,
    },
    /// The last events (up to `backlog` of them), and with `more` those to come.
    Events {
        unit: Option<String>,
        backlog: Option<u32>,
    },
    /// What a start would do now, with the ids and directories that the supervisor has given it.
    Plan {
        unit: String,
    },
    /// The chain: what it is doing, what it waits for, what it died of.
    Why {
        unit: String,
    },
    /// Stop every unit in order, then: end (as an ordinary supervisor), or power off, restart or halt the machine (as its PID 1).
    Poweroff,
    Reboot,
    Halt,
}

/// A request and how it wants to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub request: Request,
    /// The caller takes many replies.
    pub more: bool,
    /// The caller wants none.
    pub oneway: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "is_false")]
    more: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    oneway: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    upgrade: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitParameter {
    unit: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceParameter {
    interface: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backlog: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

impl Call {
    /// A call that is answered once.
    pub fn once(request: Request) -> Self {
        Call { request, more: false, oneway: false }
    }

    /// Reads the bytes of one frame.
    pub fn parse(frame: &[u8]) -> Result<Call, Error> {
        let wire: Wire = serde_json::from_slice(frame).map_err(|e| Error::BadRequest { reason: e.to_string() })?;
        if wire.upgrade {
            return Err(Error::BadRequest { reason: "`upgrade` is not offered here".into() });
        }
        let parameters = Value::Object(wire.parameters.unwrap_or_default());
        let request = match wire.method.as_str() {
            "org.varlink.service.GetInfo" => none(parameters, Request::ServiceInfo)?,
            "org.varlink.service.GetInterfaceDescription" => {
                let InterfaceParameter { interface } = read(parameters)?;
                Request::InterfaceDescription { interface }
            }
            "org.cellinit.Ping" => none(parameters, Request::Ping)?,
            "org.cellinit.GetInfo" => none(parameters, Request::GetInfo)?,
            "org.cellinit.Files" => none(parameters, Request::Files)?,
            "org.cellinit.List" => none(parameters, Request::List)?,
            "org.cellinit.Status" => Request::Status { unit: unit(parameters)? },
            "org.cellinit.Start" => Request::Start { unit: unit(parameters)? },
            "org.cellinit.Stop" => Request::Stop { unit: unit(parameters)? },
            "org.cellinit.Restart" => Request::Restart { unit: unit(parameters)? },
            "org.cellinit.Events" => {
                let EventsParameters { unit, backlog } = read(parameters)?;
                Request::Events { unit, backlog }
            }
            "org.cellinit.Plan" => Request::Plan { unit: unit(parameters)? },
            "org.cellinit.Why" => Request::Why { unit: unit(parameters)? },
            "org.cellinit.Poweroff" => none(parameters, Request::Poweroff)?,
            "org.cellinit.Reboot" => none(parameters, Request::Reboot)?,
            "org.cellinit.Halt" => none(parameters, Request::Halt)?,
            _ => return Err(Error::MethodNotFound { method: shorten(&wire.method) }),
        };
        Ok(Call { request, more: wire.more, oneway: wire.oneway })
    }

    /// The other way round: what a client sends. [`encode`](super::encode) makes a frame of it.
    pub fn to_value(&self) -> Value {
        let (method, parameters) = match &self.request {
            Request::ServiceInfo => ("org.varlink.service.GetInfo", None),
            Request::InterfaceDescription { interface } => {
                ("org.varlink.service.GetInterfaceDescription", Some(json!({ "interface": interface })))
            }
            Request::Ping => ("org.cellinit.Ping", None),
            Request::GetInfo => ("org.cellinit.GetInfo", None),
            Request::Files => ("org.cellinit.Files", None),
            Request::List => ("org.cellinit.List", None),
            Request::Status { unit } => ("org.cellinit.Status", Some(json!({ "unit": unit }))),
            Request::Start { unit } => ("org.cellinit.Start", Some(json!({ "unit": unit }))),
            Request::Stop { unit } => ("org.cellinit.Stop", Some(json!({ "unit": unit }))),
            Request::Restart { unit } => ("org.cellinit.Restart", Some(json!({ "unit": unit }))),
            Request::Events { unit, backlog } => {
                let parameters = EventsParameters { unit: unit.clone(), backlog: *backlog };
                ("org.cellinit.Events", serde_json::to_value(parameters).ok())
            }
            Request::Plan { unit } => ("org.cellinit.Plan", Some(json!({ "unit": unit }))),
            Request::Why { unit } => ("org.cellinit.Why", Some(json!({ "unit": unit }))),
            Request::Poweroff => ("org.cellinit.Poweroff", None),
            Request::Reboot => ("org.cellinit.Reboot", None),
            Request::Halt => ("org.cellinit.Halt", None),
        };
        let mut call = Map::new();
        call.insert("method".into(), method.into());
        if let Some(parameters) = parameters {
            call.insert("parameters".into(), parameters);
        }
        if self.more {
            call.insert("more".into(), true.into());
        }
        if self.oneway {
            call.insert("oneway".into(), true.into());
        }
        Value::Object(call)
    }
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, Error> {
    serde_json::from_value(parameters).map_err(|e| Error::InvalidParameter { parameter: shorten(&e.to_string()) })
}

fn unit(parameters: Value) -> Result<String, Error> {
    read::<UnitParameter>(parameters).map(|p| p.unit)
}

fn none(parameters: Value, request: Request) -> Result<Request, Error> {
    read::<NoParameters>(parameters).map(|_| request)
}

/// What a stranger wrote goes back to him and into logs: not all of it.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{End, encode};

    fn every_request() -> Vec<Request> {
        let unit = || "web".to_owned();
        vec![
            Request::ServiceInfo,
            Request::InterfaceDescription { interface: "org.cellinit".into() },
            Request::Ping,
            Request::GetInfo,
            Request::List,
            Request::Status { unit: unit() },
            Request::Start { unit: unit() },
            Request::Stop { unit: unit() },
            Request::Restart { unit: unit() },
            Request::Events { unit: None, backlog: None },
            Request::Events { unit: Some(unit()), backlog: Some(7) },
            Request::Plan { unit: unit() },
            Request::Why { unit: unit() },
            Request::Poweroff,
            Request::Reboot,
            Request::Halt,
        ]
    }

    #[test]
    fn every_request_crosses_unchanged() {
        for request in every_request() {
            for (more, oneway) in [(false, false), (true, false), (false, true)] {
                let call = Call { request: request.clone(), more, oneway };
                let bytes = encode(&call.to_value(), End::Nul);
                assert_eq!(Call::parse(&bytes[..bytes.len() - 1]), Ok(call));
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        for (frame, expected) in [
            ("", "BadRequest"),
            ("nonsense", "BadRequest"),
            ("[]", "BadRequest"),
            ("{}", "BadRequest"),
            (r#"{"method":7}"#, "BadRequest"),
            (r#"{"method":"org.cellinit.Ping","mehr":true}"#, "BadRequest"),
            (r#"{"method":"org.cellinit.Ping","upgrade":true}"#, "BadRequest"),
            (r#"{"method":"org.cellinit.Dance"}"#, "MethodNotFound"),
            (r#"{"method":"org.cellinit.Status"}"#, "InvalidParameter"),
            (r#"{"method":"org.cellinit.Status","parameters":{"unit":1}}"#, "InvalidParameter"),
            (r#"{"method":"org.cellinit.Status","parameters":{"unit":"a","x":1}}"#, "InvalidParameter"),
            (r#"{"method":"org.cellinit.Ping","parameters":{"x":1}}"#, "InvalidParameter"),
            (&deep, "BadRequest"),
        ] {
            let error = Call::parse(frame.as_bytes()).expect_err(frame);
            assert!(error.name().ends_with(expected), "{frame}: {error:?}");
        }
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = 88_172_645_463_325_252_u64;
        let seeds: Vec<Vec<u8>> = every_request().into_iter().map(|r| serde_json::to_vec(&Call::once(r).to_value()).unwrap()).collect();
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..1 + round % 5 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = seed as usize % bytes.len();
                bytes[at] = (seed >> 40) as u8;
            }
            if let Err(error) = Call::parse(&bytes) {
                assert!(error.name().starts_with("org."));
            }
        }
    }
}
