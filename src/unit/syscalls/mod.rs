//! The system calls by name, and the lists of them, read from the text files beside this one. They are part of the program: what is wrong in them is found by a test.

use std::collections::BTreeMap;
use std::sync::LazyLock;

const X86_64: &str = include_str!("x86_64.txt");
const DEFAULT: &str = include_str!("default.txt");
const GROUPS: &str = include_str!("groups.txt");

pub type Table = BTreeMap<&'static str, u32>;

/// Every call of this architecture, by name. Another architecture is another file.
pub fn table() -> Option<&'static Table> {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let pairs = lines(X86_64).filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(name, number)| Some((name, number.parse().ok()?))).collect()
    });
    cfg!(target_arch = "x86_64").then(|| &*TABLE)
}

pub fn default_list() -> impl Iterator<Item = &'static str> {
    lines(DEFAULT).flat_map(str::split_whitespace)
}

/// Members by group; a member may be a group.
pub fn groups() -> &'static BTreeMap<&'static str, Vec<&'static str>> {
    static GROUPED: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
        let mut groups = BTreeMap::new();
        let mut current: &mut Vec<&str> = &mut Vec::new();
        for line in lines(GROUPS) {
            match line.strip_prefix("  ") {
                Some(members) => current.extend(members.split_whitespace()),
                None => current = groups.entry(line).or_default(),
            }
        }
        groups
    });
    &GROUPED
}

/// Whether a name means something on any architecture: a call or a group. Where there is no table, all do.
pub fn is_known(name: &str) -> bool {
    let Some(table) = table() else { return true };
    table.contains_key(name) || groups().contains_key(name) || groups().values().any(|members| members.contains(&name))
}

pub fn nearest(name: &str) -> Option<&'static str> {
    super::nearest(name, table().into_iter().flat_map(BTreeMap::keys).chain(groups().keys()).copied())
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_list_is_a_call() {
        let Some(calls) = table() else { return };
        assert_eq!(calls.len(), 382);
        assert_eq!((calls["read"], calls["file_setattr"]), (0, 469));
        for name in default_list() {
            assert!(calls.contains_key(name), "{name}");
        }
        assert_eq!(default_list().count(), 292);
    }

    #[test]
    fn groups_hold_calls_and_groups() {
        let groups = groups();
        assert_eq!(groups.len(), 28);
        assert!(groups["@system-service"].contains(&"@file-system"));
        for member in groups.values().flatten().filter(|member| member.starts_with('@')) {
            assert!(groups.contains_key(member), "{member}");
        }
    }
}
