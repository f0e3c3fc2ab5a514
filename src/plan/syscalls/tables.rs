//! The lists, read from the text files beside this one. They are part of the program: what is wrong in them is found by a test.

use std::collections::BTreeMap;
use std::sync::LazyLock;

const X86_64: &str = include_str!("x86_64.txt");
const DEFAULT: &str = include_str!("default.txt");
const GROUPS: &str = include_str!("groups.txt");

pub(super) type Table = BTreeMap<&'static str, u32>;

/// Every call of this architecture, by name. Another architecture is another file.
pub(super) fn syscalls() -> Option<&'static Table> {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let pairs = lines(X86_64).filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(name, number)| Some((name, number.parse().ok()?))).collect()
    });
    cfg!(target_arch = "x86_64").then(|| &*TABLE)
}

pub(super) fn default_list() -> impl Iterator<Item = &'static str> {
    lines(DEFAULT).flat_map(str::split_whitespace)
}

/// Members by group; a member may be a group.
pub(super) fn groups() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut groups = BTreeMap::new();
    let mut current: &mut Vec<&str> = &mut Vec::new();
    for line in lines(GROUPS) {
        match line.strip_prefix("  ") {
            Some(members) => current.extend(members.split_whitespace()),
            None => current = groups.entry(line).or_default(),
        }
    }
    groups
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_list_is_a_call() {
        let Some(calls) = syscalls() else { return };
        assert_eq!(calls.len(), 382);
        assert_eq!((calls["read"], calls["file_setattr"]), (0, 469));
        let wasm = super::super::wasm::all();
        for name in default_list().chain(wasm) {
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
