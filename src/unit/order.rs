//! Loops in the order of starts. Refused at load: at run time each unit of the loop would wait for the next for ever.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::set::Draft;

/// Loops reported; a knot of units has more than anyone wants to read.
const MAX_LOOPS: usize = 20;

/// `from` waits for `to`, as `key` in the file of `said_by` says.
struct Edge<'a> {
    to: &'a str,
    said_by: &'a str,
    key: String,
}

type Graph<'a> = BTreeMap<&'a str, Vec<Edge<'a>>>;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    /// On the path that is being walked.
    Open,
    /// Everything behind it was walked.
    Done,
}

/// One fault for each loop, at the word that closes it.
pub(super) fn loops(draft: &Draft) -> Vec<Diagnostic> {
    let graph = graph(draft);
    let (mut marks, mut faults) = (BTreeMap::new(), Vec::new());
    for start in graph.keys() {
        // A path on the heap, not the call stack: a chain of units may be as long as it likes.
        let mut path: Vec<(&str, usize)> = Vec::new();
        if !marks.contains_key(start) {
            marks.insert(*start, Mark::Open);
            path.push((start, 0));
        }
        while let Some((unit, next)) = path.last_mut() {
            let unit = *unit;
            let Some(edge) = graph.get(unit).and_then(|edges| edges.get(*next)) else {
                marks.insert(unit, Mark::Done);
                path.pop();
                continue;
            };
            *next += 1;
            match marks.get(edge.to) {
                None => {
                    marks.insert(edge.to, Mark::Open);
                    path.push((edge.to, 0));
                }
                Some(Mark::Open) if faults.len() < MAX_LOOPS => faults.extend(fault(draft, &path, edge)),
                Some(_) => {}
            }
        }
    }
    faults
}

/// Who waits for whom; without those who wait for nobody. References to units that do not exist or cannot be read are left out; a
/// unit that waits for itself has been reported as such.
fn graph(draft: &Draft) -> Graph<'_> {
    let mut graph = Graph::new();
    let mut add = |from: &str, to: &str, said_by: &str, key: String| {
        let names = [from, to, said_by].map(|name| draft.units.get_key_value(name).map(|(name, _)| name.as_str()));
        if let [Some(from), Some(to), Some(said_by)] = names
            && from != to
        {
            graph.entry(from).or_default().push(Edge { to, said_by, key });
        }
    };
    for (name, parsed) in &draft.units {
        let unit = &parsed.unit;
        unit.depends.iter().enumerate().for_each(|(n, to)| add(name, &to.unit, name, format!("unit.depends[{n}].unit")));
        unit.after.iter().enumerate().for_each(|(n, to)| add(name, to, name, format!("unit.after[{n}]")));
        unit.before.iter().enumerate().for_each(|(n, from)| add(from, name, name, format!("unit.before[{n}]")));
    }
    graph
}

fn fault(draft: &Draft, path: &[(&str, usize)], closing: &Edge<'_>) -> Option<Diagnostic> {
    let begin = path.iter().position(|(unit, _)| *unit == closing.to)?;
    let mut ring: Vec<&str> = path[begin..].iter().map(|(unit, _)| *unit).collect();
    ring.push(closing.to);
    let message = format!("these units wait for one another: {}", ring.join(" -> "));
    let help =
        "`depends`, `after` and the other side's `before` are orders; take one of them away, or make it `requires`, which orders no start"
            .to_owned();
    Some(draft.units.get(closing.said_by)?.fault(&closing.key, message, Some(help)))
}
