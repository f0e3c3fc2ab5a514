//! One unit in full, its walls included.

use serde_json::Value;

use super::table::bytes;
use super::terminal::{Paint, harmless};
use crate::control::Unit;
use crate::time::{Age, Utc};

/// Width of the names on the left.
const NAMES: usize = 14;

pub fn render(unit: &Unit, now: Utc, paint: Paint) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", paint.bold(&unit.name), harmless(&unit.description)).trim_end().to_owned()];
    let mut say = |name: &str, text: String| lines.push(format!("  {} {text}", paint.dim(&format!("{name:NAMES$}"))));
    say("kind", unit.kind.clone());
    let age = Utc::parse(&unit.since).map_or(String::new(), |since| format!(" for {}", Age(now.0.saturating_sub(since.0) / 1_000_000)));
    let ready = if unit.ready { ", ready" } else { "" };
    say("state", format!("{}{ready}{age} (since {}, wanted {})", paint.state(&unit.state, &unit.state), unit.since, unit.desired));
    if unit.health != "none" {
        say("health", paint.state(&unit.health, &unit.health));
    }
    for wait in &unit.waiting_for {
        say("waits for", format!("{} ({})", wait.unit, wait.condition));
    }
    if let Some(cause) = &unit.cause {
        say("cause", format!("{}: {}", cause.kind, harmless(&cause.text)));
    }
    if let Some(text) = &unit.status_text {
        say("says", harmless(text));
    }
    say("restarts", unit.restarts.to_string());
    if let Some(pid) = unit.pid {
        say("pid", pid.to_string());
    }
    if let Some(memory) = unit.memory {
        say("memory", bytes(memory));
    }
    if let Some(cgroup) = &unit.cgroup {
        say("cgroup", harmless(cgroup));
    }
    for (title, value) in [("probes", &unit.probes), ("walls, as the kernel shows them", &unit.walls)] {
        if let Some(value) = value {
            lines.push(format!("  {}", paint.bold(title)));
            outline(value, 2, &mut lines, paint);
        }
    }
    lines
}

/// An object as an aligned list; objects of plain values take one line each, longer ones are indented below their name.
fn outline(value: &Value, depth: usize, lines: &mut Vec<String>, paint: Paint) {
    let Value::Object(entries) = value else {
        lines.push(format!("{:width$}{}", "", inline(value), width = depth * 2));
        return;
    };
    let width = entries.keys().map(|name| name.len()).max().unwrap_or(0);
    for (name, value) in entries {
        let head = format!("{:indent$}{}", "", paint.dim(&format!("{name:width$}")), indent = depth * 2);
        match value {
            // A wall that is not there is said.
            Value::Null if name == "selinux" => lines.push(format!("{head} none (the kernel has no SELinux)")),
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => {
                lines.push(head);
                outline(value, depth + 1, lines, paint);
            }
            value => lines.push(format!("{head} {}", inline(value))),
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => harmless(text),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(inline).collect::<Vec<_>>().join(" "),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::tests::unit;
    use serde_json::json;

    #[test]
    fn a_unit_in_full() {
        let unit = Unit {
            pid: Some(7),
            walls: Some(json!({
                "namespaces": {"mnt": 1, "pid": 22},
                "no_new_privs": true,
                "selinux": null,
                "uid_map": [[0, 524288, 65536]],
            })),
            ..unit("web", "running")
        };
        let lines = render(&unit, Utc::parse("2026-11-22T10:00:09.000000Z").unwrap(), Paint(false));
        let expected = "\
web  A thing
  kind           service
  state          running for 9s (since 2026-11-22T10:00:00.000000Z, wanted up)
  restarts       0
  pid            7
  walls, as the kernel shows them
    namespaces  
      mnt 1
      pid 22
    no_new_privs yes
    selinux      none (the kernel has no SELinux)
    uid_map      0 524288 65536";
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim_end).collect();
        assert_eq!(lines, expected);
    }
}
