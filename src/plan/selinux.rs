//! The label of a cell: a type for what may be done to the system, a pair of categories against all other cells.

use crate::unit::{Payload, Profile, Unit};

use super::error::Shortcomings;
use super::{Facts, Slot, Step};

/// Categories of the policy; two distinct ones in order make 523,776 pairs.
const CATEGORIES: u32 = 1024;

pub(super) fn label(unit: &Unit, facts: &Facts, slot: Slot, shortcomings: &mut Shortcomings<'_>) -> Option<Step> {
    let (kind, level) = (&unit.selinux.kind, &unit.selinux.level);
    let Some(selinux) = &facts.selinux else {
        for (key, demanded) in [("selinux.type", kind), ("selinux.level", level)] {
            if let Some(demanded) = demanded {
                shortcomings.cannot(key, format!("{demanded} is asked for, and this kernel runs without SELinux"));
            }
        }
        return None;
    };
    // Profile `none` stays in the domain of the supervisor unless it asks for another one.
    if unit.isolation.profile == Profile::None && kind.is_none() && level.is_none() {
        return None;
    }
    let base = match unit.payload {
        Payload::Wasm(_) => &selinux.wasm,
        _ => &selinux.native,
    };
    let mut parts: Vec<&str> = base.splitn(4, ':').take(3).collect();
    if let (Some(kind), [_, _, place]) = (kind, parts.as_mut_slice()) {
        *place = kind;
    }
    let level = match (level, unit.isolation.profile) {
        (Some(level), _) => level.clone(),
        (None, Profile::None | Profile::Host) => "s0".to_string(),
        (None, _) => pair(slot),
    };
    Some(Step::SetSelinuxLabel(format!("{}:{level}", parts.join(":"))))
}

/// The label of what the cell may write to: the type of its files, and its own level.
pub(super) fn of_files(steps: &[Step], facts: &Facts) -> Option<String> {
    let files = &facts.selinux.as_ref()?.files;
    let level = steps.iter().find_map(|step| match step {
        Step::SetSelinuxLabel(label) => label.splitn(4, ':').nth(3),
        _ => None,
    })?;
    Some(format!("{files}:{level}"))
}

/// The slot-th of all sorted pairs: (0,1), (0,2), ... (0,1023), (1,2), ...
pub(super) fn pair(slot: Slot) -> String {
    let mut rest = slot.index;
    let mut first = 0;
    while first < CATEGORIES - 2 && rest >= CATEGORIES - 1 - first {
        rest -= CATEGORIES - 1 - first;
        first += 1;
    }
    format!("s0:c{first},c{}", first + 1 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_distinct_and_sorted() {
        let check = |index, expected: &str| assert_eq!(pair(Slot { index }), expected);
        check(0, "s0:c0,c1");
        check(1022, "s0:c0,c1023");
        check(1023, "s0:c1,c2");
        check(523_775, "s0:c1022,c1023");
    }
}
