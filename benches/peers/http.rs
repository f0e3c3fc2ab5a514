//! `wasi:http`: requests per second on one core of load, and the first answer from zero processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Bench, Outcome, Supervisor, compare, contender, installed, median};
use super::wasm::{guest, wasmtime};

const OURS: &str = "127.0.0.1:18080";
const THEIRS: &str = "127.0.0.1:18081";

pub fn run(bench: &Bench) -> Outcome {
    let unit = format!("[wasm]\nmodule = \"{}\"\n[[socket]]\nlisten = \"tcp://{OURS}\"\n", guest("http-hello").display());
    let supervisor = Supervisor::start(bench, "http", &[("greet".into(), unit)])?;
    supervisor.wait(|units| units.iter().any(|u| u["name"] == "greet" && u["ready"] == true))?;
    throughput(bench)?;
    let mut calls = supervisor.connect()?;
    let first = contender("cellinit: start to first answer", || {
        calls.call("Stop", json!({ "unit": "greet" }))?;
        supervisor.wait(|units| units.iter().any(|u| u["name"] == "greet" && u["state"] == "stopped"))?;
        let begun = Instant::now();
        calls.call("Start", json!({ "unit": "greet" }))?;
        get(OURS)?;
        Ok(begun.elapsed())
    });
    compare("first HTTP answer from zero processes, all walls", 20, vec![first], Duration::ZERO, &[])
}

fn throughput(bench: &Bench) -> Outcome {
    if !installed("wrk") {
        println!("\nwasi:http throughput left out: wrk is not installed");
        return Ok(());
    }
    let peer = match wasmtime() {
        Some(program) => Some(Serve(
            Command::new(program)
                .args(["serve", "-Scli", "--addr", THEIRS])
                .arg(guest("http-hello"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        )),
        None => None,
    };
    let begun = Instant::now();
    while peer.is_some() && get(THEIRS).is_err() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..(bench.rounds / 20).max(3) {
        ours.push(load(OURS)?);
        if peer.is_some() {
            theirs.push(load(THEIRS)?);
        }
    }
    let ours = median(&mut ours);
    println!("\nwasi:http hello, wrk with one thread and 16 connections\n  {:<34} {ours:>9.0} requests/s", "cellinit, all walls");
    if peer.is_some() {
        let theirs = median(&mut theirs);
        println!("  {:<34} {theirs:>9.0} requests/s   cellinit answers {:.2} x as many", "wasmtime serve", ours / theirs);
    }
    Ok(())
}

struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(address: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let output = Command::new("wrk").args(["-t1", "-c16", "-d4s"]).arg(format!("http://{address}/")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(bad) = text.lines().find(|l| l.contains("Non-2xx")) {
        return Err(format!("{address} answered with errors: {bad}").into());
    }
    let line = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")).ok_or("wrk gave no figure")?;
    Ok(line.trim().parse()?)
}

fn get(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("not a 200: {answer:.60}").into()) }
}
