//! The survey: what this kernel grants, tried one thing at a time in throw-away children.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};

use crate::trial::ProcMount;
use crate::{clone_process, confine, trial};

/// Every namespace but the user one is tried within a new user namespace, as an ordinary user must.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("mount namespace", CloneFlags::CLONE_NEWNS),
    ("pid namespace", CloneFlags::CLONE_NEWPID),
    ("ipc namespace", CloneFlags::CLONE_NEWIPC),
    ("uts namespace", CloneFlags::CLONE_NEWUTS),
    ("net namespace", CloneFlags::CLONE_NEWNET),
    ("cgroup namespace", CloneFlags::CLONE_NEWCGROUP),
];

/// Name of each feature, with "yes", a version, or "no: why".
pub fn survey() -> BTreeMap<String, String> {
    let user = CloneFlags::CLONE_NEWUSER;
    let mut found = BTreeMap::from([
        ("user namespace".to_owned(), attempt(user, || Ok(()))),
        ("Landlock".to_owned(), confine::landlock_available().unwrap_or_else(|| "no: not in this kernel".to_owned())),
        ("seccomp".to_owned(), answer(if action_known(libc::SECCOMP_RET_ERRNO) { Ok(()) } else { Err(Errno::ENOSYS) })),
        ("seccomp listener".to_owned(), answer(if crate::can_notify() { Ok(()) } else { Err(Errno::EBUSY) })),
        ("hardware counters".to_owned(), answer(count_instructions())),
    ]);
    for (name, flag) in NAMESPACES {
        found.insert(name.to_owned(), attempt(user | flag, || Ok(())));
    }
    let (mounts, processes) = (CloneFlags::CLONE_NEWNS, CloneFlags::CLONE_NEWPID);
    for (name, how) in [("own /proc", ProcMount::Full), ("own /proc, processes only", ProcMount::Subset)] {
        found.insert(name.to_owned(), attempt(user | mounts | processes, || trial::mount_proc(how)));
    }
    found
}

/// Whether the kernel knows a seccomp action.
pub fn action_known(action: u32) -> bool {
    // SAFETY: asks about one action by a pointer to a live integer.
    let known =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
    known == 0
}

/// Clones a child with these namespaces and lets it try something.
fn attempt(flags: CloneFlags, what: impl FnOnce() -> nix::Result<()>) -> String {
    // SAFETY: single-threaded; the child tries one thing and leaves.
    let child = match unsafe { clone_process(flags.bits() as u64, None) } {
        Ok(None) => {
            let code = what().err().map_or(0, |errno| errno as i32);
            // SAFETY: a forked child leaves without exit handlers.
            unsafe { libc::_exit(code) }
        }
        Ok(Some(child)) => child,
        Err(errno) => return answer(Err(errno)),
    };
    answer(match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, code)) => Err(Errno::from_raw(code)),
        _ => Err(Errno::ECHILD),
    })
}

fn answer(result: nix::Result<()>) -> String {
    match result {
        Ok(()) => "yes".to_owned(),
        Err(errno) => format!("no: {}", errno.desc()),
    }
}

/// Opens a counter of this process's instructions, as `perf stat` would.
fn count_instructions() -> nix::Result<()> {
    /// The first published size of `struct perf_event_attr`; kernels accept it for ever.
    const ATTRIBUTE_BYTES: u32 = 64;
    const HARDWARE: u32 = 0;
    const INSTRUCTIONS: u64 = 1;
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    let mut attributes = [0u64; 8];
    attributes[0] = u64::from(HARDWARE) | u64::from(ATTRIBUTE_BYTES) << 32;
    attributes[1] = INSTRUCTIONS;
    attributes[5] = EXCLUDE_KERNEL_AND_HYPERVISOR;
    // SAFETY: the attributes are live and of the size they state; the descriptor dies with this process.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
    Errno::result(fd).map(drop)
}
