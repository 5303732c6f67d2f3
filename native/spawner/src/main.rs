//! The spawner: one small single-threaded process per sandbox.
//!
//! It joins its control group, builds the sandbox around itself, and then starts one trial after
//! another on request. Being small, it forks in microseconds where the harness would take
//! milliseconds; living inside, it holds nothing of the host that a trial could reach.
//!
//! Started by the harness with its socket as standard input; of no use from a shell.

mod confine;
mod etc;
mod files;
mod filter;
mod root;
mod scratch;
mod survey;
mod trial;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nightfleet_spawner::board::{Board, Report};
use nightfleet_spawner::meter::Meter;
use nightfleet_spawner::wire::{self, Launch, Network, Reply, Request, Setup};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use root::{At, Outcome};
use trial::{ProcMount, Stage};

/// The harness's end of the conversation.
const PARENT: RawFd = libc::STDIN_FILENO;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("survey") {
        println!("{}", serde_json::to_string(&survey::survey()).unwrap_or_default());
        return;
    }
    confine_descriptors();
    confine::reset_signals();
    umask(Mode::from_bits_truncate(0o022));
    // Our own session: a Ctrl-C in the user's terminal is the harness's to handle.
    let _ = nix::unistd::setsid();
    let Ok(Some((Request::Setup(setup), descriptors))) = wire::receive::<Request>(PARENT) else {
        std::process::exit(2)
    };
    match prepare(*setup, descriptors) {
        Ok((stage, promises)) => {
            if wire::send(PARENT, &Reply::Ready(promises), &[]).is_ok() {
                serve(stage);
            }
        }
        Err(refusal) => {
            let reply = Reply::Refused { step: refusal.step, errno: refusal.errno as i32 };
            let _ = wire::send(PARENT, &reply, &[]);
        }
    }
}

/// Whatever the harness left open by mistake ends here.
fn confine_descriptors() {
    // SAFETY: nothing in this fresh process owns a descriptor above the standard ones.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

fn prepare(setup: Setup, mut descriptors: Vec<OwnedFd>) -> Outcome<(Stage, BTreeMap<String, String>)> {
    if descriptors.len() != 1 + setup.joins + setup.meters.len() {
        return Err(Errno::EBADMSG).at("reading the request");
    }
    let harness = descriptors.remove(0);
    let meter_files = descriptors.split_off(setup.joins);
    for group in &descriptors {
        nix::unistd::write(group, b"0").at("joining the control group")?;
    }
    if !setup.isolate {
        confine::adopt_orphans();
    }
    confine::pin(&setup.cores).at("setting core affinity")?;
    let mut promises = BTreeMap::new();
    if setup.isolate {
        promises.insert("user".to_owned(), root::enter(&setup)?);
    }
    confine::limit(&setup.limits, setup.isolate).at("setting limits")?;
    let proc = if setup.isolate { settle_proc()? } else { ProcMount::Empty };
    if setup.isolate {
        confine::forswear().at("giving up privileges")?;
    }
    let notify = setup.isolate && can_notify();
    let filter = filter::compile(&setup, notify).map_err(|_| Errno::EINVAL).at("compiling the system-call filter")?;
    describe(&setup, proc, notify, &mut promises);
    let meters = setup.meters.iter().copied().zip(meter_files).collect();
    let board = Board::map().at("mapping the report")?;
    let go = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).at("making an event counter")?;
    let mut stage = Stage { setup, filter, notify, proc, meters, own_memory: 0, board, go, harness };
    stage.own_memory = stage.meter(Meter::MemoryNow).max(0);
    Ok((stage, promises))
}

/// Finds which /proc this kernel lets a trial have, by mounting one in a throw-away child.
fn settle_proc() -> Outcome<ProcMount> {
    for how in [ProcMount::Subset, ProcMount::Full] {
        let flags = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;
        // SAFETY: single-threaded; the child mounts and leaves.
        let child = match unsafe { clone_process(flags, None) }.at("creating a process namespace")? {
            None => {
                let code = i32::from(trial::mount_proc(how).is_err());
                // SAFETY: a forked child leaves without exit handlers.
                unsafe { libc::_exit(code) }
            }
            Some(child) => child,
        };
        if matches!(waitpid(child, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 0))) {
            return Ok(how);
        }
    }
    Ok(ProcMount::Empty)
}

/// Whether refused calls can be announced (a container's own listener would forbid a second one).
pub fn can_notify() -> bool {
    if !survey::action_known(libc::SECCOMP_RET_USER_NOTIF) {
        return false;
    }
    let everything = [seccompiler::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }].to_vec();
    // SAFETY: single-threaded; the child tries one filter and leaves.
    match unsafe { clone_process(0, None) } {
        Ok(None) => {
            // An unprivileged process may only filter itself once it can gain nothing by it.
            let _ = nix::sys::prctl::set_no_new_privs();
            let code = i32::from(filter::install(&everything, true).is_err());
            // SAFETY: a forked child leaves without exit handlers.
            unsafe { libc::_exit(code) }
        }
        Ok(Some(child)) => matches!(waitpid(child, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 0))),
        Err(_) => false,
    }
}

fn describe(setup: &Setup, proc: ProcMount, notify: bool, promises: &mut BTreeMap<String, String>) {
    let mut promise = |name: &str, how: &str| promises.insert(name.to_owned(), how.to_owned());
    promise("core dumps", &confine::core_limit());
    if !setup.isolate {
        promise("isolation", "lost: unsafe_no_sandbox was asked for");
        return;
    }
    promise("files", "mount namespace, minimal root by pivot_root, read-only nosuid nodev binds");
    promise("processes", "process id namespace a trial, killed and reaped with its init");
    promise("ipc", "ipc namespace a trial");
    promise("scratch", "fresh size-limited tmpfs on /tmp, HOME, /dev/shm and /out a trial");
    promise("privileges", "no_new_privs, empty bounding set, locked securebits, all capabilities dropped");
    promise(
        "network",
        match setup.network {
            Network::None => "empty network namespace, sockets refused by seccomp",
            Network::Loopback => "network namespace a trial with loopback only, TCP only by seccomp",
            Network::Host => "open: this profile may use the host's network",
        },
    );
    promise(
        "system calls",
        if notify { "seccomp filter, refusals announced" } else { "seccomp filter (refusals not announced)" },
    );
    let landlock = confine::landlock_available();
    promise("second line", landlock.as_deref().unwrap_or("lost: this kernel has no Landlock"));
    promise(
        "/proc",
        match proc {
            ProcMount::Subset => "own /proc, processes only",
            ProcMount::Full => "own /proc, read-only",
            ProcMount::Empty => "lost: this container forbids mounting /proc, so it is empty; some runtimes fail",
        },
    );
}

/// `fork` with namespace flags. `None` in the child.
///
/// # Safety
/// The caller must be single-threaded: the child goes on with a copy of this one thread.
pub unsafe fn clone_process(flags: u64, pidfd: Option<&mut RawFd>) -> nix::Result<Option<Pid>> {
    let (flags, place) = match pidfd {
        Some(place) => (flags | libc::CLONE_PIDFD as u64, std::ptr::from_mut(place)),
        None => (flags, std::ptr::null_mut()),
    };
    // SAFETY: without CLONE_VM this is fork; `place` is null or a live integer.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD as u64, 0, place, 0, 0) };
    let pid = Errno::result(answer)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// Waits for a request; false when the harness is dead.
fn spoken_to(stage: &Stage) -> bool {
    // SAFETY: the socket stays open for the life of this process.
    let parent = unsafe { BorrowedFd::borrow_raw(PARENT) };
    loop {
        let mut waiting =
            [PollFd::new(parent, PollFlags::POLLIN), PollFd::new(stage.harness.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) => return waiting[0].any() == Some(true),
        }
    }
}

/// Answers requests until the harness is gone.
fn serve(stage: Stage) {
    loop {
        if !spoken_to(&stage) {
            return;
        }
        match wire::receive::<Request>(PARENT) {
            Ok(Some((Request::Launch(launch), descriptors))) => {
                if run_trial(&stage, &launch, descriptors).is_err() {
                    return;
                }
            }
            // A kill that crossed with the end of its trial.
            Ok(Some((Request::Kill, _))) => {}
            _ => return,
        }
    }
}

/// Runs one trial to its end and reports it. An error means that the harness is gone.
fn run_trial(stage: &Stage, launch: &Launch, descriptors: Vec<OwnedFd>) -> Result<(), Errno> {
    stage.board.update(|report| *report = Report::default());
    let before = stage.before();
    let mut pidfd: RawFd = -1;
    // SAFETY: this process has one thread.
    let started = unsafe { clone_process(stage.clone_flags(), Some(&mut pidfd)) };
    let init = match started {
        Ok(None) => trial::init(stage, launch, &descriptors, &before),
        Ok(Some(init)) => init,
        Err(errno) => {
            stage.board.update(|report| {
                report.start_step = nightfleet_spawner::board::Step::Fork as i32;
                report.start_errno = errno as i32;
            });
            return wire::send(PARENT, &Reply::Done(Box::new(stage.board.read())), &[]);
        }
    };
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop(descriptors);
    wire::send(PARENT, &Reply::Started(init.as_raw()), &[])?;
    stage.go.write(1)?;
    let alive = watch(stage, init, &pidfd, launch.deadline_ms);
    let _ = waitpid(init, None);
    if !stage.setup.isolate {
        // Init may have been killed before it could clear up; its orphans are then ours.
        trial::end_everything(false);
    }
    if stage.board.read().ended_ns < 0 {
        // Init was killed, so nobody has read the meters yet.
        stage.settle(&before, 0);
    }
    alive?;
    wire::send(PARENT, &Reply::Done(Box::new(stage.board.read())), &[])
}

/// Waits for init's end; kills it when told to, or when the harness is gone. Init's death ends its
/// process namespace and everything in it.
fn watch(stage: &Stage, init: Pid, pidfd: &OwnedFd, deadline_ms: u32) -> Result<(), Errno> {
    // SAFETY: the socket stays open for the life of this process.
    let parent = unsafe { BorrowedFd::borrow_raw(PARENT) };
    loop {
        let mut waiting = [
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(parent.as_fd(), PollFlags::POLLIN),
            PollFd::new(stage.harness.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::try_from(deadline_ms).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        if waiting[0].any() == Some(true) {
            return Ok(());
        }
        if waiting[1].any() != Some(true) {
            // The harness is dead though something (a forked child of it) keeps its socket open, or it has
            // let the deadline pass by far: nobody is left to ask.
            let _ = kill(init, Signal::SIGKILL);
            return Err(Errno::ETIMEDOUT);
        }
        let told_to = matches!(wire::receive::<Request>(parent.as_raw_fd()), Ok(Some((Request::Kill, _))));
        let _ = kill(init, Signal::SIGKILL);
        if !told_to {
            return Err(Errno::EPIPE);
        }
    }
}
