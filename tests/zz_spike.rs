mod support;
use std::time::Instant;
#[test]
fn look() {
    if std::env::var_os(support::look::LOOK).is_some() {
        support::look::look();
    }
}
#[test]
fn spike() {
    let n: u32 = std::env::var("N")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    for (name, rest) in [
        ("default", ""),
        ("default-noseccomp", "[seccomp]\npolicy = \"off\"\n"),
        ("hostnet", "[network]\nmode = \"host\"\n"),
        ("profile host", "[isolation]\nprofile = \"host\"\n"),
        ("none", "[isolation]\nprofile = \"none\"\n"),
    ] {
        let cell = support::Cell::new(&format!(
            "[service]\nexec = [\"/bin/busybox\", \"true\"]\n{rest}"
        ));
        let mut times = vec![];
        for _ in 0..n {
            let t = Instant::now();
            cell.run().ok();
            times.push(t.elapsed());
        }
        times.sort();
        println!(
            "{name}: median {:?} p10 {:?} p90 {:?}",
            times[times.len() / 2],
            times[times.len() / 10],
            times[times.len() * 9 / 10]
        );
    }
    println!("{:?}", support::look("").mounts);
}
