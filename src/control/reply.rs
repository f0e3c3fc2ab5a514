//! What the supervisor answers.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DESCRIPTION, End, Error, INTERFACE, VARLINK_DESCRIPTION, VARLINK_INTERFACE, encode};

/// One unit as an operator sees it: the answer to `List` and, with the last four fields, to `Status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    pub description: String,
    /// service, job or target.
    pub kind: String,
    /// stopped, waiting, starting, running, stopping, backoff, failed or completed.
    pub state: String,
    /// up or down.
    pub desired: String,
    /// none, starting, healthy, degraded or unhealthy.
    pub health: String,
    pub ready: bool,
    /// The main process, as the supervisor numbers it.
    pub pid: Option<i32>,
    /// Starts after the first that nobody asked for.
    pub restarts: u64,
    /// When the state was entered, RFC 3339 in UTC.
    pub since: String,
    /// What it last died of.
    pub cause: Option<Cause>,
    /// The cell's cgroup, as a path on the host.
    pub cgroup: Option<String>,
    /// Bytes that the cell uses, where the host counts them.
    pub memory: Option<u64>,
    /// The last `STATUS=` of sd_notify(3).
    pub status_text: Option<String>,
    /// What a waiting unit waits for.
    pub waiting_for: Vec<Waiting>,
    /// The last answer of each probe: name to sentence. Only in `Status`, of a unit that has a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Value>,
    /// The walls as read back from the kernel. Only in `Status`, of a unit that has a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walls: Option<Value>,
}

/// Why a unit died: one of the words of `[restart] on`, `success`, `stop`, `restart` or `restart-limit`, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub kind: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub unit: String,
    /// started, ready, healthy, completed, settled (order only) or stopped.
    pub condition: String,
}

/// Something that happened to a unit, with how the unit was right afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one; a gap means that this reader was too slow.
    pub sequence: u64,
    pub time: String,
    pub unit: String,
    pub state: String,
    pub health: String,
    pub ready: bool,
    pub pid: Option<i32>,
    pub restarts: u64,
    /// What happened, as a short sentence: `running -> backoff: exited with status 3; next try in 400 ms`.
    pub text: String,
}

/// One link of the answer to `Why`: the unit asked about, then, one deeper, each unit that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub depth: u32,
    pub unit: String,
    pub text: String,
}

/// The answer to `GetInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    pub version: String,
    /// The supervisor's pid in its own pid namespace.
    pub pid: i32,
    /// It is PID 1 of a machine or of a namespace.
    pub init: bool,
    pub run_dir: String,
    /// The folders and files that the units were read from.
    pub units: Vec<String>,
    pub since: String,
    /// running or stopping.
    pub state: String,
}

/// A unit file, as it was when the supervisor read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFile {
    pub path: String,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

/// The answer to `Files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The folders and files that the units were read from.
    pub paths: Vec<String>,
    pub files: Vec<UnitFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Units {
    pub units: Vec<Unit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub unit: Unit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub text: String,
    pub plan: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub links: Vec<Link>,
}

/// The answer to `org.varlink.service.GetInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    pub vendor: String,
    pub product: String,
    pub version: String,
    pub url: String,
    pub interfaces: Vec<String>,
}

impl ServiceInfo {
    pub fn ours(version: &str) -> Self {
        ServiceInfo {
            vendor: "cellinit".into(),
            product: "cellinit".into(),
            version: version.into(),
            url: "https://varlink.org".into(),
            interfaces: vec![VARLINK_INTERFACE.into(), INTERFACE.into()],
        }
    }
}

/// The answer to `org.varlink.service.GetInterfaceDescription`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub description: String,
}

impl Interface {
    pub fn named(interface: &str) -> Result<Self, Error> {
        match interface {
            INTERFACE => Ok(Interface { description: DESCRIPTION.into() }),
            VARLINK_INTERFACE => Ok(Interface { description: VARLINK_DESCRIPTION.into() }),
            _ => Err(Error::InterfaceNotFound { interface: interface.chars().take(120).collect() }),
        }
    }
}

/// A reply as a client reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub parameters: Value,
    /// Another reply to the same call follows.
    pub continues: bool,
}

impl Answer {
    /// Reads the bytes of one frame: an answer, or the refusal; the outer error is "this is no reply at all".
    pub fn parse(frame: &[u8]) -> Result<Result<Answer, Error>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Wire {
            error: Option<String>,
            #[serde(default)]
            parameters: Value,
            #[serde(default)]
            continues: bool,
        }
        let wire: Wire = serde_json::from_slice(frame)?;
        match wire.error {
            None => Ok(Ok(Answer { parameters: wire.parameters, continues: wire.continues })),
            Some(name) => {
                let error = serde_json::json!({ "error": name, "parameters": wire.parameters });
                Ok(Err(serde_json::from_value(error)?))
            }
        }
    }

    pub fn into<T: DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.parameters)
    }
}

/// The frame of a reply. `&serde_json::json!({})` is the reply of a method that returns nothing.
pub fn reply_text(parameters: &impl Serialize, continues: bool, end: End) -> Vec<u8> {
    #[derive(Serialize)]
    struct Wire<'a, T> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    encode(&Wire { parameters, continues }, end)
}

/// The frame of a refusal.
pub fn error_text(error: &Error, end: End) -> Vec<u8> {
    encode(error, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_and_refusals_cross() {
        let why = Why { links: vec![Link { depth: 0, unit: "web".into(), text: "waits for db".into() }] };
        let bytes = reply_text(&why, true, End::Newline);
        let answer = Answer::parse(&bytes).unwrap().unwrap();
        assert!(answer.continues);
        assert_eq!(answer.into::<Why>().unwrap(), why);

        let refusal = Error::NoSuchUnit { unit: "wep".into(), nearest: Some("web".into()) };
        let bytes = error_text(&refusal, End::Nul);
        assert_eq!(Answer::parse(&bytes[..bytes.len() - 1]).unwrap(), Err(refusal));
        assert!(Answer::parse(b"[]").is_err());
    }

    #[test]
    fn interfaces() {
        assert!(Interface::named("org.cellinit").is_ok());
        assert!(Interface::named("org.varlink.service").is_ok());
        assert_eq!(Interface::named("x"), Err(Error::InterfaceNotFound { interface: "x".into() }));
    }
}
