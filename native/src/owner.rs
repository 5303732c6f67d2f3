//! A process's name for life: what a lease or a control group says about who holds it.
//!
//! A bare pid is reused; pid and start time together are not, within one boot and pid namespace.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One process, past or present, of one pid namespace of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Process id inside `namespace`.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start_ticks: u64,
    /// Inode of the pid namespace: containers may share a cgroup tree but not their pids.
    pub namespace: u64,
}

impl Owner {
    /// This process.
    pub fn own() -> Result<Owner> {
        let pid = std::process::id() as i32;
        let stat = fs::read("/proc/self/stat").map_err(|error| Error::Machine(format!("/proc/self/stat: {error}")))?;
        let Some(Stat { start_ticks, .. }) = Stat::parse(&stat) else {
            return Err(Error::Machine("/proc/self/stat has an unknown form".into()));
        };
        Ok(Owner { pid, start_ticks, namespace: own_namespace()? })
    }

    /// False only if the process is surely gone: callers remove what belongs to the dead.
    pub fn may_be_alive(&self) -> bool {
        if own_namespace().ok() != Some(self.namespace) || self.pid <= 0 {
            return true;
        }
        match fs::read(format!("/proc/{}/stat", self.pid)).map(|stat| Stat::parse(&stat)) {
            Ok(Some(stat)) => stat.start_ticks == self.start_ticks && !stat.finished,
            // With `hidepid` other users' processes are invisible in /proc, yet kill(2) tells.
            _ => nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), None) != Err(nix::errno::Errno::ESRCH),
        }
    }
}

/// The fields of `/proc/<pid>/stat` that say whether it is still the same living process.
struct Stat {
    start_ticks: u64,
    finished: bool,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Stat> {
        // The program's own name is field 2 and may hold spaces and brackets: count from its end.
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(&text[end + 1..]).ok()?.split_ascii_whitespace().collect();
        let threads: u64 = fields.get(17)?.parse().ok()?;
        let start_ticks = fields.get(19)?.parse().ok()?;
        // A leader that has ended stays a zombie while its threads live on.
        Some(Stat { start_ticks, finished: matches!(*fields.first()?, "Z" | "X") && threads <= 1 })
    }
}

fn own_namespace() -> Result<u64> {
    let unknown = |what: String| Error::Machine(format!("/proc/self/ns/pid: {what}"));
    let link = fs::read_link("/proc/self/ns/pid").map_err(|error| unknown(error.to_string()))?;
    let text = link.to_string_lossy().into_owned();
    let inode =
        text.strip_prefix("pid:[").and_then(|rest| rest.strip_suffix(']')).and_then(|digits| digits.parse().ok());
    inode.ok_or_else(|| unknown(format!("unexpected {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const SAMPLE: &str =
        "812 (a) Z 9 (x) S 1 812 812 0 -1 4194560 98 0 0 0 1 2 0 0 20 0 3 0 141414 2813952 221 18446744073709551615";

    #[test]
    fn the_start_is_found_behind_a_hostile_name() {
        let stat = Stat::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!((stat.start_ticks, stat.finished), (141_414, false));
        let zombie = SAMPLE.replace(") S 1", ") Z 1");
        assert!(!Stat::parse(zombie.as_bytes()).unwrap().finished, "three threads are alive");
        assert!(Stat::parse(zombie.replace(" 3 0 1414", " 1 0 1414").as_bytes()).unwrap().finished);
        for text in ["", "1 (sh", "1 (sh) S 1 2 3", "1 (sh) S 1 812 812 0 -1 4 98 0 0 0 1 2 0 0 20 0 x 0 y"] {
            assert!(Stat::parse(text.as_bytes()).is_none(), "took {text:?}");
        }
    }

    #[test]
    fn we_are_alive_and_a_later_namesake_is_not_us() {
        let own = Owner::own().unwrap();
        assert!(own.may_be_alive());
        assert!(!Owner { start_ticks: own.start_ticks + 1, ..own }.may_be_alive());
        assert!(Owner { namespace: own.namespace + 1, start_ticks: 0, ..own }.may_be_alive(), "not ours to judge");
    }

    #[test]
    fn a_dead_process_is_dead_before_and_after_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stat = Stat::parse(&fs::read(format!("/proc/{}/stat", child.id())).unwrap()).unwrap();
        let owner =
            Owner { pid: child.id() as i32, start_ticks: stat.start_ticks, namespace: own_namespace().unwrap() };
        assert!(owner.may_be_alive());
        child.kill().unwrap();
        // Waits for its end without reaping it.
        let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(owner.pid));
        nix::sys::wait::waitid(id, nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT)
            .unwrap();
        assert!(!owner.may_be_alive(), "a zombie");
        child.wait().unwrap();
        assert!(!owner.may_be_alive(), "reaped");
    }
}
