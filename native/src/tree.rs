//! A trial's processes as seen from outside, for machines whose control groups cannot be written.

use std::fs;

/// Resident memory and tasks of a process and all that descends from it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TreeUsage {
    /// Sum of resident sets, bytes; shared pages count once a process, so this errs upwards.
    pub resident_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
}

/// Looks at `root` and its descendants. Within a process namespace every orphan is adopted by `root`,
/// so none is missed. Processes that end meanwhile count nothing.
pub fn usage(root: i32) -> TreeUsage {
    let mut total = TreeUsage::default();
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        if let Some(bytes) = resident_bytes(pid) {
            total.resident_bytes += bytes;
        }
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            total.tasks += 1;
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    total
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: asks for a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_and_their_children_are_counted() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & cat; kill $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let mut seen = TreeUsage::default();
        for _ in 0..1000 {
            seen = usage(pid);
            if seen.tasks == 3 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(seen.tasks, 3);
        assert!(seen.resident_bytes > 0);
        assert_eq!(usage(pid), TreeUsage::default());
    }
}
