//! The system-call filter: which calls a program may make.
//!
//! Refused calls go to a listener in the trial's init, which notes the call and answers `EPERM`: so a
//! program that needs a denied thing can be told which, and what would allow it.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nightfleet_spawner::refused::{ALWAYS, OF_THIS_ARCHITECTURE};
use nightfleet_spawner::wire::{Network, Setup};
use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// `seccompiler` has no name for the user-notification action, so the filter is compiled with a
/// tracing action of this number, whose return value is then replaced.
const NOTIFY_MARK: u32 = 0x4e46;
/// The largest system call number known when the refusal table was written: newer ones do not exist
/// for a program (`ENOSYS`), so that no new kernel surface opens unread. 466 is `removexattrat`
/// (Linux 6.13); 467 is another call on the mount table.
const NEWEST_KNOWN_CALL: u32 = 466;
/// x32 calls carry this bit on x86-64.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// The calls that make a task (`clone3` does not exist for a program).
#[cfg(target_arch = "x86_64")]
pub const FORKS: &[i64] = &[libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork];
/// The calls that make a task (`clone3` does not exist for a program).
#[cfg(not(target_arch = "x86_64"))]
pub const FORKS: &[i64] = &[libc::SYS_clone];

/// Whether a `clone` asks for a namespace of its own.
pub fn asks_for_namespace(flags: u64) -> bool {
    NAMESPACE_FLAGS.iter().any(|flag| flags & (*flag as u32 as u64) != 0)
}

/// `cachestat` (Linux 6.5), the same number everywhere.
const CACHESTAT: i64 = 451;

const NAMESPACE_FLAGS: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWTIME,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Outcome<T> = Result<T, seccompiler::BackendError>;

/// Compiles the filter of this sandbox. `notify`: whether refused calls go to a listener.
pub fn compile(setup: &Setup, notify: bool) -> Result<BpfProgram, String> {
    build(setup, notify).map_err(|error| error.to_string())
}

fn build(setup: &Setup, notify: bool) -> Outcome<BpfProgram> {
    let mut rules: Rules = BTreeMap::new();
    rules.insert(libc::SYS_clone, namespace_rules()?);
    if setup.counted_tasks.is_some() && notify {
        // Every new task is announced, so that init can count what no control group counts.
        for call in FORKS {
            rules.insert(*call, vec![]);
        }
    }
    rules.insert(libc::SYS_personality, vec![personality_rule()?]);
    rules.insert(libc::SYS_prctl, vec![equals(0, libc::PR_SET_SECCOMP as u64)?, equals(0, libc::PR_SET_MM as u64)?]);
    rules.insert(libc::SYS_ioctl, vec![equals(1, libc::TIOCSTI)?, equals(1, libc::TIOCLINUX)?]);
    rules.insert(libc::SYS_socketpair, vec![differs(0, &[libc::AF_UNIX])?, typed(libc::AF_UNIX, libc::SOCK_DGRAM)?]);
    rules.insert(libc::SYS_prlimit64, vec![limits_of_another()?]);
    if !setup.tree_writable {
        // The page cache outlives a trial: these tell what of a file is in it, or choose what stays.
        for call in [libc::SYS_inotify_init1, libc::SYS_mincore, CACHESTAT] {
            rules.insert(call, vec![]);
        }
        rules.insert(libc::SYS_fadvise64, vec![equals(3, libc::POSIX_FADV_DONTNEED as u64)?]);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_inotify_init, vec![]);
    }
    rules.insert(libc::SYS_socket, socket_rules(setup)?);
    let action = if notify { SeccompAction::Trace(NOTIFY_MARK) } else { SeccompAction::Errno(libc::EPERM as u32) };
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let always = ALWAYS.iter().chain(OF_THIS_ARCHITECTURE).map(|row| (row.number, Leaf::Refuse));
    let sometimes = rules.keys().filter(|number| !rules[number].is_empty()).map(|number| (*number, Leaf::Look));
    let never = rules.keys().filter(|number| rules[number].is_empty()).map(|number| (*number, Leaf::Refuse));
    let leaves: BTreeMap<i64, Leaf> = always.chain(sometimes).chain(never).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?;
    let mut compiled: BpfProgram = filter.try_into()?;
    for instruction in &mut compiled {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRACE | NOTIFY_MARK {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    let refusal = if notify { libc::SECCOMP_RET_USER_NOTIF } else { libc::SECCOMP_RET_ERRNO | libc::EPERM as u32 };
    let leaves: Vec<_> = leaves.into_iter().map(|(number, leaf)| (number as u32, leaf)).collect();
    let dispatch = finish(tree(&leaves, refusal));
    Ok(prelude().into_iter().chain(dispatch).chain(compiled).collect())
}

fn namespace_rules() -> Outcome<Vec<SeccompRule>> {
    let rule = |flag: i32| {
        let flag = flag as u32 as u64;
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
        SeccompRule::new(vec![condition])
    };
    NAMESPACE_FLAGS.into_iter().map(rule).collect()
}

/// Reading the personality (all ones) and setting the ordinary one (0) are harmless.
fn personality_rule() -> Outcome<SeccompRule> {
    SeccompRule::new(vec![
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(u32::MAX))?,
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?,
    ])
}

/// Setting the limits of another process: init has the same id, and a CPU limit would kill it.
fn limits_of_another() -> Outcome<SeccompRule> {
    SeccompRule::new(vec![
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?,
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?,
    ])
}

fn socket_rules(setup: &Setup) -> Outcome<Vec<SeccompRule>> {
    match setup.network {
        Network::None if setup.unix_sockets => Ok(vec![differs(0, &[libc::AF_UNIX])?]),
        Network::None => Ok(vec![]),
        // Name look-ups and interface lists of common runtimes go through netlink.
        Network::Loopback => inet_rules(&[libc::SOCK_DGRAM, libc::SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP]),
        Network::Host => inet_rules(&[libc::SOCK_RAW]),
    }
}

/// Types of socket that no inet protocol of ours uses, listed because a filter can only test equality.
const SOCK_RDM: i32 = 4;
const SOCK_SEQPACKET: i32 = 5;
const SOCK_DCCP: i32 = 6;
/// The low four bits of `socket`'s second argument are the type, the rest are flags.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// Refuses every family but UNIX, inet and netlink, and of inet the given types.
fn inet_rules(refused_types: &[i32]) -> Outcome<Vec<SeccompRule>> {
    let mut rules = vec![differs(0, &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK])?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in refused_types {
            rules.push(typed(family, *kind)?);
        }
    }
    Ok(rules)
}

/// A socket of this family and type. (An end of a datagram pair could send to any named socket in sight.)
fn typed(family: i32, kind: i32) -> Outcome<SeccompRule> {
    let masked = SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK);
    SeccompRule::new(vec![
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family as u64)?,
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, masked, kind as u64)?,
    ])
}

fn equals(argument: u8, value: u64) -> Outcome<SeccompRule> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
}

fn differs(argument: u8, values: &[i32]) -> Outcome<SeccompRule> {
    let condition = |v: &i32| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *v as u64);
    SeccompRule::new(values.iter().map(condition).collect::<Outcome<_>>()?)
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Offsets within `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

/// What stands before the compiled rules: foreign ABIs are killed, `clone3` (whose flags lie in memory,
/// out of a filter's sight) and calls newer than the table do not exist.
fn prelude() -> Vec<sock_filter> {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut steps = vec![
        step(LOAD, 0, 0, ARCH_OFFSET),
        step(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, 0, 0, NUMBER_OFFSET),
    ];
    #[cfg(target_arch = "x86_64")]
    steps.extend([step(JUMP_GREATER, 0, 1, X32_BIT - 1), step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS)]);
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    steps.extend([
        step(JUMP_GREATER, 1, 0, NEWEST_KNOWN_CALL),
        step(JUMP_EQUAL, 0, 1, libc::SYS_clone3 as u32),
        step(RETURN, 0, 0, no_such_call),
    ]);
    steps
}

/// What becomes of a listed call.
#[derive(Clone, Copy)]
enum Leaf {
    /// Refused whatever its arguments.
    Refuse,
    /// Its arguments decide: on to the compiled rules.
    Look,
}

const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// A binary search over the listed calls; any other is allowed at once. The kernel runs a filter over
/// every call number when it is installed (to learn which are always allowed), so a chain of
/// comparisons instead of a tree would cost each trial a quarter of a millisecond.
fn tree(leaves: &[(u32, Leaf)], refusal: u32) -> Vec<sock_filter> {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let allow = step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    match leaves {
        [] => vec![allow],
        [(number, leaf)] => {
            let verdict = match leaf {
                Leaf::Refuse => step(RETURN, 0, 0, refusal),
                // Where to is filled in by `finish`.
                Leaf::Look => step(JUMP, 0, 0, 0),
            };
            vec![step(JUMP_EQUAL, 0, 1, *number), verdict, allow]
        }
        _ => {
            let (below, from) = leaves.split_at(leaves.len() / 2);
            let (left, right) = (tree(below, refusal), tree(from, refusal));
            // A conditional jump reaches 255 steps; the tree of all calls has under 400, its halves 200.
            let over = u8::try_from(left.len()).unwrap_or(u8::MAX);
            [vec![step(JUMP_AT_LEAST, over, 0, from[0].0)], left, right].concat()
        }
    }
}

/// Points every open jump behind the tree's end, where the compiled rules begin.
fn finish(mut tree: Vec<sock_filter>) -> Vec<sock_filter> {
    let end = tree.len();
    for (index, step) in tree.iter_mut().enumerate().filter(|(_, step)| step.code == JUMP) {
        step.k = (end - index - 1) as u32;
    }
    tree
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const AUDIT_ARCH: u32 = 0xc000_00f3;

/// Installs the filter on this process (which must have `no_new_privs`). With `notify`, returns the
/// descriptor on which refused calls are announced.
pub fn install(filter: &BpfProgram, notify: bool) -> Result<Option<OwnedFd>, Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SPEC_ALLOW: on older kernels a filter otherwise switches speculation off and slows the program.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | if notify { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: `program` points at a live array of the stated length; the kernel copies it.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) };
    let answer = Errno::result(answer)?;
    // SAFETY: with NEW_LISTENER the call's answer is a descriptor made for us.
    Ok(notify.then(|| unsafe { OwnedFd::from_raw_fd(answer as RawFd) }))
}

// The two requests of <linux/seccomp.h>, whose structures libc knows.
nix::ioctl_readwrite!(notification_receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(notification_send, b'!', 1, libc::seccomp_notif_resp);

/// What init says to an announced call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Let it happen.
    Go,
    /// `EAGAIN`: there is room for no more tasks.
    NoRoom,
    /// `EPERM`.
    Refused,
}

/// An announced call: its number, and the argument that tells calls of that number apart.
pub type Announced = (i64, u64);

/// Takes one announced call and answers it as `decide` says; `None` when the caller died meanwhile.
///
/// A call that may go on is decided by its registers alone, which nobody can change any more.
pub fn answer_one(listener: RawFd, decide: impl FnOnce(Announced) -> Answer) -> Option<(Announced, Answer)> {
    // SAFETY: both are plain C structures for which all zeroes are valid (the kernel demands it).
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut answer: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
    // SAFETY: `listener` is a notification descriptor and `call` a live structure.
    unsafe { notification_receive(listener, &raw mut call) }.ok()?;
    let number = i64::from(call.data.nr);
    let telling = match number {
        libc::SYS_socket | libc::SYS_socketpair | libc::SYS_prctl | libc::SYS_personality | libc::SYS_clone => {
            call.data.args[0] & 0xffff_ffff
        }
        _ => 0,
    };
    let said = decide((number, telling));
    answer.id = call.id;
    match said {
        Answer::Go => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Answer::NoRoom => answer.error = -libc::EAGAIN,
        Answer::Refused => answer.error = -libc::EPERM,
    }
    // SAFETY: as above. A failure means that the caller is gone.
    let _ = unsafe { notification_send(listener, &raw mut answer) };
    Some(((number, telling), said))
}
