//! The machine against a made-up world. Every schedule comes from one seed and is checked after every step;
//! a failure prints the line that repeats it, with a trace: `SIM_SEED=123 cargo test --test sim`.
//! `SIM_SCHEDULES=10000000` tries harder.

#[path = "sim/checker.rs"]
mod checker;
#[path = "sim/orders.rs"]
mod orders;
#[path = "sim/units.rs"]
mod units;
#[path = "sim/world.rs"]
mod world;

const SCHEDULES: u64 = 100_000;
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A panic of the machine is a failure like any other: it has a seed.
fn try_seed(seed: u64) -> Result<(), String> {
    std::panic::catch_unwind(|| world::schedule(seed, false)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

#[test]
fn random_schedules() {
    if let Some(seed) = number("SIM_SEED") {
        if let Err(broken) = world::schedule(seed, true) {
            panic!("{broken}");
        }
        return;
    }
    let schedules = number("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    let mut seeds = (first..schedules).step_by(THREADS as usize);
                    seeds.find_map(|seed| try_seed(seed).err().map(|broken| (seed, broken)))
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("a thread of schedules")).min()
    });
    if let Some((seed, broken)) = failed {
        panic!("{broken}\nrepeat it with: SIM_SEED={seed} cargo test --test sim random_schedules -- --nocapture");
    }
}

#[test]
fn every_order_over_two_units() {
    let orders = orders::two_units();
    println!("{orders} orders");
    assert!(orders > 10_000, "only {orders} orders");
}

#[test]
fn every_order_over_three_units() {
    let orders = orders::three_units();
    println!("{orders} orders");
    assert!(orders > 10_000, "only {orders} orders");
}
