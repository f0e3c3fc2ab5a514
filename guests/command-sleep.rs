//! Waits in the host for as many milliseconds as its first argument says.

fn main() {
    let milliseconds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(60_000);
    println!("sleeping");
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    println!("awake");
}
