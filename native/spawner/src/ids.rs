//! Which user sandboxed programs are, inside and outside.

use std::fs;

/// The id, inside the sandbox, of the user that every program runs as.
pub const INNER_ID: u32 = 1000;
/// The host id that stands behind it when the harness runs as root (an id that owns nothing).
pub const OUTER_ID_OF_ROOT: u32 = 65533;

/// Whether the id that stands for the sandbox exists in the namespace we run in.
pub fn maps_outer_id() -> bool {
    let covers = |path| {
        fs::read_to_string(path).is_ok_and(|map: String| {
            map.lines().any(|line| {
                let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
                matches!(numbers[..], [start, _, count] if (start..start + count).contains(&u64::from(OUTER_ID_OF_ROOT)))
            })
        })
    };
    covers("/proc/self/uid_map") && covers("/proc/self/gid_map")
}
