//! What a process gives up, or takes on, before the program runs.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use nightfleet_spawner::wire::{Limits, Network, Setup};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::Pid;

/// The newest Landlock interface whose rights are asked for; older kernels give what they have.
const LANDLOCK_ABI: ABI = ABI::V6;

/// The kernel kills this process when its parent dies.
pub fn die_with_parent() {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
}

/// Orphans of the program become children of this process (where no namespace sees to that).
pub fn adopt_orphans() {
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Pins this process (and what it starts) to some cores; an empty list leaves it free.
pub fn pin(cores: &[usize]) -> nix::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Limits that are inherited by every trial, set once. Everything else is put to a fixed value too, so
/// that the shell a user launched from has no say.
pub fn limit(limits: &Limits, isolated: bool) -> nix::Result<()> {
    let stack: rlim_t = 8 << 20;
    // Not 0: a core handler behind a pipe is run all the same at 0, and only at 1 is it left alone.
    lower(Resource::RLIMIT_CORE, 1)?;
    lower(Resource::RLIMIT_FSIZE, limits.file_bytes)?;
    lower(Resource::RLIMIT_NOFILE, limits.open_files)?;
    let (_, hard_stack) = getrlimit(Resource::RLIMIT_STACK)?;
    setrlimit(Resource::RLIMIT_STACK, stack.min(hard_stack), hard_stack)?;
    let (_, hard_cpu) = getrlimit(Resource::RLIMIT_CPU)?;
    setrlimit(Resource::RLIMIT_CPU, hard_cpu, hard_cpu)?;
    if isolated {
        // In a user namespace of its own the count is that namespace's: spawner, init and program.
        lower(Resource::RLIMIT_NPROC, limits.pids.saturating_add(2))?;
    }
    Ok(())
}

/// Both limits of a resource, or what the harness itself is held to where that is less: within a user
/// namespace nobody may raise a hard limit.
fn lower(resource: Resource, wanted: rlim_t) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, wanted.min(hard), wanted.min(hard))
}

/// What cores come to: the limit that holds, in words.
pub fn core_limit() -> String {
    match getrlimit(Resource::RLIMIT_CORE) {
        Ok((1, _)) => "RLIMIT_CORE 1, which keeps core handlers away too".to_owned(),
        Ok((limit, _)) => {
            format!("RLIMIT_CORE {limit} (a hard limit of this machine); a core handler behind a pipe still runs")
        }
        Err(errno) => format!("lost: {}", errno.desc()),
    }
}

/// No set-id program gives anything, no capability can come back, no one may read this process.
pub fn forswear() -> nix::Result<()> {
    // Each bit with its lock, so that it cannot be cleared: no root, no set-uid fix-up, no ambient raise.
    const NOROOT: u64 = 1 | 1 << 1;
    const NO_SETUID_FIXUP: u64 = 1 << 2 | 1 << 3;
    const KEEP_CAPS_LOCKED: u64 = 1 << 5;
    const NO_AMBIENT_RAISE: u64 = 1 << 6 | 1 << 7;
    let bits = NOROOT | NO_SETUID_FIXUP | KEEP_CAPS_LOCKED | NO_AMBIENT_RAISE;
    // SAFETY: plain prctl with integers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) })?;
    caps::clear(None, caps::CapSet::Ambient).map_err(|_| Errno::EPERM)?;
    caps::clear(None, caps::CapSet::Bounding).map_err(|_| Errno::EPERM)?;
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)
}

/// Gives up every capability.
pub fn drop_capabilities() -> nix::Result<()> {
    // Clearing what is permitted clears what is effective with it; nothing was ever inheritable.
    caps::clear(None, caps::CapSet::Effective).map_err(|_| Errno::EPERM)?;
    caps::clear(None, caps::CapSet::Permitted).map_err(|_| Errno::EPERM)
}

/// Default dispositions for every signal: what is ignored here would stay ignored in every program, and
/// both Python (SIGXFSZ) and Rust (SIGPIPE) ignore some. Done once; forks and `execve` keep it.
pub fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default disposition runs none of our code.
        let _ = unsafe { sigaction(signal, &default) };
    }
    for real_time in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: as above.
        unsafe { libc::signal(real_time, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// An empty mask: `execve` would hand on what is blocked here.
pub fn unblock_signals() {
    let _ = SigSet::empty().thread_set_mask();
}

/// The second line behind the mounts: what may be written, executed, connected to and signalled.
pub fn landlock(setup: &Setup) -> nix::Result<()> {
    build_ruleset(setup).and_then(|ruleset| ruleset.restrict_self()).map(drop).map_err(|_| Errno::EPERM)
}

/// Which Landlock is enforced here: its description, or `None` where the kernel has none.
pub fn landlock_available() -> Option<String> {
    // SAFETY: with a null pointer and this flag the call only answers the interface's version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    (version > 0).then(|| format!("Landlock ABI {version}"))
}

fn build_ruleset(setup: &Setup) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(every_right())?;
    if setup.network == Network::None {
        ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK_ABI))?;
    }
    if setup.network != Network::Host {
        ruleset = ruleset.scope(Scope::from_all(LANDLOCK_ABI))?;
    }
    let read = AccessFs::from_read(LANDLOCK_ABI);
    let mut created = allow(ruleset.create()?, "/", read)?;
    for scratch in crate::scratch::PLACES {
        created = allow(created, scratch, every_right())?;
    }
    created = allow(created, "/dev", AccessFs::ReadFile | AccessFs::WriteFile)?;
    created = allow(created, "/proc", read | AccessFs::WriteFile)?;
    if setup.tree_writable {
        created = allow(created, "/tree", every_right())?;
    }
    for bind in setup.binds.iter().filter(|bind| bind.writable) {
        created = allow(created, &bind.target.to_string_lossy(), every_right())?;
    }
    Ok(created)
}

fn every_right() -> BitFlags<AccessFs> {
    AccessFs::from_all(LANDLOCK_ABI)
}

fn allow(ruleset: RulesetCreated, path: &str, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => ruleset.add_rule(PathBeneath::new(fd, rights)),
        // A path that is not there needs no rule.
        Err(_) => Ok(ruleset),
    }
}

/// Brings up `lo` in the trial's own network namespace.
pub fn raise_loopback() -> nix::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a live `ifreq` naming an interface.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}

/// Hands a descriptor to the process at the other end of `socket`.
pub fn send_descriptor(socket: &OwnedFd, descriptor: &OwnedFd) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"f")], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Takes the descriptor sent by [`send_descriptor`]; `None` when the other end died first.
pub fn receive_descriptor(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    received.cmsgs().ok()?.find_map(|message| match message {
        // SAFETY: the kernel has just installed this descriptor for us.
        ControlMessageOwned::ScmRights(fds) => fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }),
        _ => None,
    })
}
