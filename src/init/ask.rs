//! `cellinit probe http URL` and `cellinit probe tcp ADDRESS`: one question, asked from inside a cell's network. It runs for
//! milliseconds, reads an answer that a service wrote, and therefore has no privilege left by then. Status 0 is yes; what
//! else there is to say goes to standard output. The supervisor kills it when it takes too long.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

const NOBODY: u32 = 65_534;
/// `HTTP/1.1 200 `: nothing after it is read.
const STATUS_LINE: usize = 13;

pub fn main(words: &[String]) -> ExitCode {
    let asked = enter().and_then(|()| match words {
        [kind, url] if kind == "http" => http(url),
        [kind, address] if kind == "tcp" => connect(address).map(drop),
        _ => Err("usage: cellinit probe http URL | tcp HOST:PORT".to_owned()),
    });
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            print!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whom a question is asked, when its words are right.
pub fn asked(words: &[&str]) -> Option<SocketAddr> {
    match words {
        ["http", url] => resolve(&with_port(split(url)?.0)),
        ["tcp", address] => resolve(address),
        _ => None,
    }
}

/// Into the network namespace on standard input (or not: /dev/null means the host's), and out of every privilege.
fn enter() -> Result<(), String> {
    let words = |call: &'static str| move |errno: nix::Error| format!("{call}: {}", errno.desc());
    match setns(std::io::stdin(), CloneFlags::CLONE_NEWNET) {
        Ok(()) | Err(nix::Error::EINVAL) => {}
        Err(errno) => return Err(words("setns")(errno)),
    }
    if nix::unistd::geteuid().is_root() {
        setgroups(&[]).map_err(words("setgroups"))?;
        let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        setresgid(gid, gid, gid).map_err(words("setresgid"))?;
        // Leaving uid 0 takes the effective, permitted and ambient capabilities along; capabilities(7).
        setresuid(uid, uid, uid).map_err(words("setresuid"))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(words("no_new_privs"))
}

fn http(url: &str) -> Result<(), String> {
    let (authority, path) = split(url).ok_or_else(|| format!("{url}: no http:// URL"))?;
    let mut stream = connect(&with_port(authority))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: cellinit\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut line = [0; STATUS_LINE];
    stream.read_exact(&mut line).map_err(|e| format!("no HTTP answer: {e}"))?;
    match status(&line) {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP status {code}")),
        None => Err("no HTTP answer".to_owned()),
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let address = resolve(address).ok_or_else(|| format!("{address}: neither an address nor localhost"))?;
    TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))
}

/// Addresses and `localhost`: a static program has no resolver, and a probe that needs DNS tests DNS.
fn resolve(address: &str) -> Option<SocketAddr> {
    if let Ok(address) = address.parse() {
        return Some(address);
    }
    let (host, port) = address.rsplit_once(':')?;
    (host == "localhost").then_some(())?;
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?))
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    match rest.find('/') {
        Some(at) => Some(rest.split_at(at)),
        None => Some((rest, "/")),
    }
}

fn with_port(authority: &str) -> String {
    let host_end = authority.rfind(']').unwrap_or(0);
    if authority[host_end..].contains(':') { authority.to_owned() } else { format!("{authority}:80") }
}

fn status(line: &[u8; STATUS_LINE]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.strip_prefix("HTTP/1.")?.get(1..)?.strip_prefix(' ')?;
    rest.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/healthz?x=1", Some(("127.0.0.1:8080", "/healthz?x=1"))),
            ("http://localhost", Some(("localhost", "/"))),
            ("https://x/", None),
        ] {
            assert_eq!(split(url), expected);
        }
        for (authority, expected) in [("a", "a:80"), ("a:1", "a:1"), ("[::1]", "[::1]:80"), ("[::1]:8", "[::1]:8")] {
            assert_eq!(with_port(authority), expected);
        }
        assert_eq!(resolve("localhost:80"), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(resolve("[::1]:80"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(resolve("example.org:80"), None);
        assert_eq!(resolve("localhost:99999"), None);
    }

    #[test]
    fn status_lines() {
        for (line, expected) in
            [(b"HTTP/1.1 200 ", Some(200)), (b"HTTP/1.0 503 ", Some(503)), (b"HTTP/2 200 OK", None), (b"\0\0\0\0\0\0\0\0\0\0\0\0\0", None)]
        {
            assert_eq!(status(line), expected);
        }
    }
}
