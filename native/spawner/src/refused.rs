//! The system calls that a sandbox refuses, and what a user can do about each.

/// One row: the call's number and its name.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// System call number on this architecture.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
}

macro_rules! refused {
    ($($call:ident => $name:literal),* $(,)?) => {
        &[$(Refused { number: libc::$call, name: $name }),*]
    };
}

/// Refused whatever their arguments.
pub const ALWAYS: &[Refused] = refused![
    // Other namespaces and the mount table.
    SYS_unshare => "unshare", SYS_setns => "setns", SYS_mount => "mount", SYS_umount2 => "umount2",
    SYS_pivot_root => "pivot_root", SYS_chroot => "chroot", SYS_move_mount => "move_mount",
    SYS_open_tree => "open_tree", SYS_fsopen => "fsopen", SYS_fsconfig => "fsconfig",
    SYS_fsmount => "fsmount", SYS_fspick => "fspick", SYS_mount_setattr => "mount_setattr",
    SYS_open_by_handle_at => "open_by_handle_at", SYS_fanotify_init => "fanotify_init",
    // Other processes' memory and descriptors.
    SYS_ptrace => "ptrace", SYS_process_vm_readv => "process_vm_readv",
    SYS_process_vm_writev => "process_vm_writev", SYS_pidfd_getfd => "pidfd_getfd",
    SYS_process_madvise => "process_madvise", SYS_kcmp => "kcmp",
    // Large kernel surfaces that no workload needs.
    SYS_io_uring_setup => "io_uring_setup", SYS_io_uring_enter => "io_uring_enter",
    SYS_io_uring_register => "io_uring_register", SYS_userfaultfd => "userfaultfd", SYS_bpf => "bpf",
    SYS_perf_event_open => "perf_event_open", SYS_keyctl => "keyctl", SYS_add_key => "add_key",
    SYS_request_key => "request_key", SYS_seccomp => "seccomp", SYS_quotactl => "quotactl",
    SYS_syslog => "syslog", SYS_acct => "acct", SYS_move_pages => "move_pages",
    SYS_migrate_pages => "migrate_pages",
    // The leased cores and the scheduler.
    SYS_sched_setaffinity => "sched_setaffinity", SYS_sched_setscheduler => "sched_setscheduler",
    SYS_sched_setparam => "sched_setparam", SYS_sched_setattr => "sched_setattr",
    SYS_setpriority => "setpriority", SYS_ioprio_set => "ioprio_set",
    // The machine.
    SYS_init_module => "init_module", SYS_finit_module => "finit_module",
    SYS_delete_module => "delete_module", SYS_kexec_load => "kexec_load", SYS_reboot => "reboot",
    SYS_swapon => "swapon", SYS_swapoff => "swapoff", SYS_settimeofday => "settimeofday",
    SYS_clock_settime => "clock_settime", SYS_adjtimex => "adjtimex",
    SYS_clock_adjtime => "clock_adjtime", SYS_sethostname => "sethostname",
    SYS_setdomainname => "setdomainname", SYS_vhangup => "vhangup",
];

/// Refused on x86-64 only, where they exist.
#[cfg(target_arch = "x86_64")]
pub const OF_THIS_ARCHITECTURE: &[Refused] = refused![
    SYS_iopl => "iopl", SYS_ioperm => "ioperm", SYS_modify_ldt => "modify_ldt",
    SYS_kexec_file_load => "kexec_file_load",
];
/// Refused on this architecture only.
#[cfg(not(target_arch = "x86_64"))]
pub const OF_THIS_ARCHITECTURE: &[Refused] = &[];

/// A refused call in words, with the setting that would allow it where there is one.
pub fn describe(number: i64, argument: u64) -> String {
    if number == libc::SYS_socket {
        return describe_socket(argument);
    }
    let conditional = match number {
        libc::SYS_clone => Some("clone with a new namespace".to_owned()),
        libc::SYS_prctl => Some(format!("prctl({argument})")),
        libc::SYS_ioctl => Some("ioctl that types into a terminal".to_owned()),
        libc::SYS_personality => Some(format!("personality({argument:#x})")),
        libc::SYS_socketpair => Some(format!("socketpair({}, SOCK_DGRAM or another family)", family(argument))),
        libc::SYS_inotify_init1 => Some("inotify_init1".to_owned()),
        libc::SYS_mincore => Some("mincore".to_owned()),
        libc::SYS_fadvise64 => Some("fadvise64 that drops cached pages".to_owned()),
        libc::SYS_prlimit64 => Some("prlimit on another process".to_owned()),
        _ => None,
    };
    if let Some(words) = conditional {
        return format!("{words}: no setting allows it");
    }
    let row = ALWAYS.iter().chain(OF_THIS_ARCHITECTURE).find(|row| row.number == number);
    match row {
        Some(row) if number == libc::SYS_sched_setaffinity => {
            format!("{}: the harness chooses the cores; set `cores: N` to have more of them", row.name)
        }
        Some(row) => format!("{}: no setting allows it", row.name),
        None => format!("system call {number}: no setting allows it"),
    }
}

fn describe_socket(argument: u64) -> String {
    let words = format!("socket({})", family(argument));
    match i32::try_from(argument).unwrap_or(-1) {
        libc::AF_INET | libc::AF_INET6 => {
            format!("{words}: set `loopback: true` for TCP within the trial's private network")
        }
        libc::AF_UNIX | libc::AF_NETLINK => format!("{words}: set `loopback: true`"),
        _ => format!("{words}: no setting allows it"),
    }
}

fn family(argument: u64) -> String {
    match i32::try_from(argument).unwrap_or(-1) {
        libc::AF_UNIX => "AF_UNIX".to_owned(),
        libc::AF_INET => "AF_INET".to_owned(),
        libc::AF_INET6 => "AF_INET6".to_owned(),
        libc::AF_NETLINK => "AF_NETLINK".to_owned(),
        libc::AF_PACKET => "AF_PACKET".to_owned(),
        libc::AF_VSOCK => "AF_VSOCK".to_owned(),
        libc::AF_ALG => "AF_ALG".to_owned(),
        _ => format!("address family {argument}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_the_call_and_what_to_do() {
        assert!(describe(libc::SYS_socket, libc::AF_INET as u64).contains("`loopback: true`"));
        assert!(describe(libc::SYS_sched_setaffinity, 0).contains("`cores: N`"));
        assert_eq!(describe(libc::SYS_bpf, 0), "bpf: no setting allows it");
        assert_eq!(describe(9999, 0), "system call 9999: no setting allows it");
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<_> = ALWAYS.iter().chain(OF_THIS_ARCHITECTURE).map(|row| row.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ALWAYS.len() + OF_THIS_ARCHITECTURE.len());
    }
}
