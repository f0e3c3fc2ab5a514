//! Units as rows.

use super::terminal::{Paint, clip};
use crate::control::{Cause, Unit};
use crate::time::{Age, Utc};

const HEAD: [&str; 8] = ["UNIT", "STATE", "HEALTH", "PID", "MEMORY", "RESTARTS", "AGE", "NOTE"];
/// Columns between two cells.
const GAP: usize = 2;
const NUMBERS: std::ops::RangeInclusive<usize> = 3..=6;

/// The table, each line at most `columns` wide. The last column takes what is left.
pub fn render(units: &[Unit], now: Utc, columns: usize, paint: Paint) -> Vec<String> {
    let rows: Vec<[String; 8]> = units.iter().map(|unit| row(unit, now)).collect();
    let widths: Vec<usize> =
        (0..7).map(|n| rows.iter().map(|row| row[n].chars().count()).chain([HEAD[n].len()]).max().unwrap_or(0)).collect();
    let mut lines = vec![paint.bold(&line(&HEAD.map(str::to_owned), &widths, columns, |_, text| text))];
    for row in &rows {
        lines.push(line(row, &widths, columns, |n, text| match n {
            1 => paint.state(row[1].as_str(), &text),
            2 => paint.state(row[2].as_str(), &text),
            7 => paint.dim(&text),
            _ => text,
        }));
    }
    lines
}

fn row(unit: &Unit, now: Utc) -> [String; 8] {
    let age = Utc::parse(&unit.since).map(|since| Age(now.0.saturating_sub(since.0) / 1_000_000).to_string());
    [
        unit.name.clone(),
        unit.state.clone(),
        if unit.health == "none" { "-".into() } else { unit.health.clone() },
        unit.pid.map_or("-".into(), |pid| pid.to_string()),
        unit.memory.map_or("-".into(), bytes),
        unit.restarts.to_string(),
        age.unwrap_or_else(|| "-".into()),
        note(unit),
    ]
}

/// What is worth saying beyond the columns: what it waits for, else what it died of, else what it says of itself.
pub fn note(unit: &Unit) -> String {
    if !unit.waiting_for.is_empty() {
        let all: Vec<String> = unit.waiting_for.iter().map(|w| format!("{} ({})", w.unit, w.condition)).collect();
        return format!("waits for {}", all.join(", "));
    }
    match (unit.state.as_str(), &unit.cause, &unit.status_text) {
        ("backoff" | "failed" | "completed" | "stopped" | "stopping", Some(cause), _) => cause.text.clone(),
        (_, _, Some(text)) if !text.is_empty() => text.clone(),
        ("running" | "starting", Some(Cause { kind, text }), _) if !matches!(kind.as_str(), "stop" | "restart") => {
            format!("before: {text}")
        }
        _ => unit.description.clone(),
    }
}

fn line(cells: &[String; 8], widths: &[usize], columns: usize, paint: impl Fn(usize, String) -> String) -> String {
    let mut line = String::new();
    let mut used = 0;
    for (n, text) in cells.iter().enumerate() {
        let room = columns.saturating_sub(used);
        let padded = match widths.get(n) {
            Some(&width) if NUMBERS.contains(&n) => format!("{text:>width$}"),
            Some(&width) => format!("{text:width$}"),
            None => super::terminal::harmless(text),
        };
        let shown = clip(&padded, room);
        used += shown.chars().count() + GAP;
        line.push_str(&paint(n, shown));
        if used <= columns && n < 7 {
            line.push_str("  ");
        }
    }
    line.trim_end().to_owned()
}

/// `512 B`, `3.2 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::control::Waiting;

    pub fn unit(name: &str, state: &str) -> Unit {
        Unit {
            name: name.into(),
            description: "A thing".into(),
            kind: "service".into(),
            state: state.into(),
            desired: "up".into(),
            health: "none".into(),
            ready: false,
            pid: None,
            restarts: 0,
            since: "2026-11-22T10:00:00.000000Z".into(),
            cause: None,
            cgroup: None,
            memory: None,
            status_text: None,
            waiting_for: vec![],
            probes: None,
            walls: None,
        }
    }

    #[test]
    fn a_table() {
        let now = Utc::parse("2026-11-22T10:01:05.000000Z").unwrap();
        let units = [
            Unit { pid: Some(4711), memory: Some(3_355_443), health: "healthy".into(), ready: true, ..unit("web", "running") },
            Unit { waiting_for: vec![Waiting { unit: "web".into(), condition: "healthy".into() }], ..unit("client", "waiting") },
            Unit { restarts: 3, cause: Some(Cause { kind: "exit".into(), text: "exit status 3".into() }), ..unit("flaky", "backoff") },
        ];
        let text = render(&units, now, 100, Paint(false)).join("\n");
        let expected = "\
UNIT    STATE    HEALTH    PID   MEMORY  RESTARTS    AGE  NOTE
web     running  healthy  4711  3.2 MiB         0  1m05s  A thing
client  waiting  -           -        -         0  1m05s  waits for web (healthy)
flaky   backoff  -           -        -         3  1m05s  exit status 3";
        assert_eq!(text, expected);
        for columns in [0, 1, 5, 20, 40, 60, 200] {
            for line in render(&units, now, columns, Paint(false)) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn sizes() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
