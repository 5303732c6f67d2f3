//! Slots that outlived their owner: how a directory names it, and how the dead are cleared away.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::group::Group;
use super::place::Hierarchy;
use super::{Slot, survey};
use crate::owner::Owner;

const PREFIX: &str = "nightfleet";

/// Kills and removes what slots of dead processes left behind; returns the removed directories.
///
/// It looks where this process could make slots itself. A slot whose owner is alive, or cannot be
/// judged from this pid namespace, is never touched.
pub fn reclaim() -> Vec<PathBuf> {
    let mut leftovers: BTreeMap<String, Vec<Group>> = BTreeMap::new();
    for hierarchy in Hierarchy::all() {
        for parent in hierarchy.upwards() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if owner_in(&name).is_some_and(|owner| !owner.may_be_alive()) {
                    leftovers.entry(name).or_default().push(Group { version: hierarchy.version, path: entry.path() });
                }
            }
        }
    }
    leftovers.into_values().flat_map(dissolve).collect()
}

fn dissolve(groups: Vec<Group>) -> Vec<PathBuf> {
    let facts = survey(&groups, &[]);
    let mut slot = Slot { groups, facts, process: std::process::id() };
    let _ = slot.kill_all();
    std::mem::take(&mut slot.groups).into_iter().filter(Group::remove).map(|group| group.path).collect()
}

pub(super) fn directory_name(owner: &Owner, name: &str) -> String {
    format!("{PREFIX}-{}-{}-{}-{name}", owner.namespace, owner.pid, owner.start_ticks)
}

fn owner_in(directory: &str) -> Option<Owner> {
    let mut parts = directory.splitn(5, '-');
    let prefix = parts.next()?;
    let (namespace, pid, start_ticks) =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let owner = Owner { pid, start_ticks, namespace };
    // Exactly what we write, so that no other spelling of a name is ever taken for ours.
    (prefix == PREFIX && directory_name(&owner, parts.next()?) == directory).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner_and_no_other_name_does() {
        let owner = Owner { pid: 812, start_ticks: 141_414, namespace: 4_026_531_836 };
        let name = directory_name(&owner, "slot-1");
        assert_eq!(name, "nightfleet-4026531836-812-141414-slot-1");
        assert_eq!(owner_in(&name), Some(owner));
        for name in [
            "nightfleet",
            "nightfleet-1-2-3",
            "nightfleet-1-x-3-a",
            "other-1-2-3-a",
            "nightfleet-1-02-3-a",
            "nightfleet-1-+2-3-a",
        ] {
            assert_eq!(owner_in(name), None, "took {name}");
        }
    }
}
