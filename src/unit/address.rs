//! Addresses out of TOML values: what is probed, and what is listened on.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::model::Listen;
use super::names::{MAX_PATH, path};
use super::values::*;

/// Length of `sun_path` without its NUL.
const MAX_UNIX_PATH: usize = 107;

/// `http://HOST[:PORT]/PATH`.
pub(super) fn url(value: &DeValue<'_>) -> Parsed<String> {
    let url = match value {
        DeValue::Table(_) => {
            return wrong("a table of url, method and headers is known, but not supported yet");
        }
        _ => text(value)?,
    };
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong_try(format!("{url:?} is not an http:// address"), "probes stay inside the cell's network, so there is no https");
    };
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
    let fine =
        !authority.is_empty() && !authority.starts_with(':') && !authority.contains('@') && port.is_none_or(|p| port_number(p).is_some());
    if !fine || url.contains(|c: char| c.is_control() || c == ' ' || !c.is_ascii()) || url.len() > MAX_PATH {
        return wrong_try(format!("{url:?} is not an http:// address"), "\"http://127.0.0.1:8080/health\"");
    }
    Ok(url)
}

pub(super) fn host_port(value: &DeValue<'_>) -> Parsed<String> {
    let address = text(value)?;
    let fine = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        !bare.is_empty()
            && (!bare.contains(':') || host.starts_with('['))
            && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            && port_number(port).is_some()
    });
    if fine { Ok(address) } else { wrong_try(format!("{address:?} is not \"host:port\""), "\"127.0.0.1:5432\" or \"[::1]:5432\"") }
}

fn port_number(text: &str) -> Option<u16> {
    digits(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

pub(super) fn listen(value: &DeValue<'_>) -> Parsed<Listen> {
    const LATER: &[&str] = &["udp:", "unix-dgram:", "unix-seqpacket:", "vsock:", "fifo:", "mq:", "netlink:", "@"];
    let address = text(value)?;
    if LATER.iter().any(|later| address.starts_with(later)) {
        return wrong(format!("{address:?} is known, but not supported yet; tcp:// and unix: are"));
    }
    if let Some(tcp) = address.strip_prefix("tcp://") {
        let spelled = tcp.strip_prefix(':').map_or(tcp.to_owned(), |port| format!("0.0.0.0:{port}"));
        return match spelled.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Listen::Tcp(address)),
            _ => wrong_try(format!("{tcp:?} is not an address and port"), "numbers only: \"tcp://0.0.0.0:8080\" or \"tcp://[::1]:8080\""),
        };
    }
    match address.strip_prefix("unix:") {
        Some(name) if name.len() > MAX_UNIX_PATH => wrong(format!("a unix socket's path has at most {MAX_UNIX_PATH} bytes")),
        Some(name) => path(&DeValue::String(name.into())).map(Listen::Unix),
        None => wrong_try(format!("{address:?} is not an address to listen on"), "\"tcp://0.0.0.0:8080\" or \"unix:/run/web.sock\""),
    }
}
