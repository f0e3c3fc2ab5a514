//! Nothing happens: how often the supervisors of 100 trivial units run meanwhile.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::many::{PEERS, Peer, family, ours};
use super::support::{Bench, Outcome, installed};

const UNITS: usize = 100;
/// After the last unit is up: what a start leaves to be done is done.
const REST: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(10);

pub fn run(bench: &Bench) -> Outcome {
    println!("\nidle with {UNITS} trivial units: context switches of all supervising processes in {} s", LOOK.as_secs());
    let (supervisor, _) = ours(bench, "idle", UNITS)?;
    line("cellinit, with its log writer", || family(supervisor.pid(), &bench.beat));
    drop(supervisor);
    for (name, scan, arguments) in PEERS.into_iter().filter(|(_, scan, _)| installed(scan)) {
        let (peer, _) = Peer::start(bench, name, scan, arguments, UNITS)?;
        line(name, || peer.processes());
    }
    Ok(())
}

fn line(name: &str, processes: impl Fn() -> Vec<u32>) {
    sleep(REST);
    let processes = processes();
    let before: u64 = processes.iter().map(switches).sum();
    sleep(LOOK);
    let after: u64 = processes.iter().map(switches).sum();
    println!("  {name:<34} {:>6} in {} processes", after.saturating_sub(before), processes.len());
}

/// Of all its tasks, those of its own will (it slept and was woken) and the others.
fn switches(process: &u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let of = |status: String| {
        let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:")?.1.trim().parse::<u64>().ok());
        counts.sum::<u64>()
    };
    statuses.map(of).sum()
}
