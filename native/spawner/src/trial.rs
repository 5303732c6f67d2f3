//! One trial: an init of its own (process id 1 of a new namespace) that prepares what must be fresh,
//! starts the program, answers for its refused system calls, and leaves nothing alive behind it.
//!
//! Spawner → init → program. The kernel shields init from the program: a process id namespace's init
//! takes no signal from within, and it is not dumpable, so neither /proc/1/mem nor ptrace reaches it.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nightfleet_spawner::board::{Board, Step};
use nightfleet_spawner::meter::Meter;
use nightfleet_spawner::wire::{Launch, Network, Setup};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use seccompiler::BpfProgram;

use crate::confine;
use crate::files;
use crate::filter::{self, Announced, Answer};
use crate::root;
use crate::scratch;

/// What every trial of this spawner has in common.
pub struct Stage {
    /// The sandbox as the parent asked for it.
    pub setup: Setup,
    /// The compiled system-call filter.
    pub filter: BpfProgram,
    /// Whether refused calls are announced to init.
    pub notify: bool,
    /// How a trial gets its own /proc.
    pub proc: ProcMount,
    /// The meters of the control group.
    pub meters: Vec<(Meter, OwnedFd)>,
    /// Memory of the group when the sandbox stood and nothing had run in it. Later readings would include
    /// what an earlier trial left in the page cache, which a trial could use to hide its own peak.
    pub own_memory: i64,
    /// Where the report is written.
    pub board: Board,
    /// Counts up when the spawner has gone back to waiting. It shares the trial's control group, so what it
    /// still did after the program began would be charged to the program.
    pub go: EventFd,
    /// The harness's process: readable once that is dead.
    pub harness: OwnedFd,
}

/// Which /proc a trial may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcMount {
    /// Only processes, nothing of the machine.
    Subset,
    /// The whole file system, read-only.
    Full,
    /// None: an empty directory. Some runtimes fail without it.
    Empty,
}

/// Failure of one step before the program ran.
struct Failed(Step, Errno);

trait During<T> {
    fn during(self, step: Step) -> Result<T, Failed>;
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, step: Step) -> Result<T, Failed> {
        self.map_err(|errno| Failed(step, errno))
    }
}

impl Stage {
    /// The namespaces that are new in every trial.
    pub fn clone_flags(&self) -> u64 {
        if !self.setup.isolate {
            return 0;
        }
        let fresh = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
        let network = if self.setup.network == Network::Loopback { libc::CLONE_NEWNET } else { 0 };
        (fresh | network) as u64
    }

    /// What becomes of an announced call.
    fn decide(&self, (number, argument): Announced) -> Answer {
        let is_fork = filter::FORKS.contains(&number) && !filter::asks_for_namespace(argument);
        match self.setup.counted_tasks {
            Some(most) if is_fork && count_tasks() < most => Answer::Go,
            Some(_) if is_fork => Answer::NoRoom,
            _ => Answer::Refused,
        }
    }

    /// Reads one meter; -1 where it is missing.
    pub fn meter(&self, wanted: Meter) -> i64 {
        let found = self.meters.iter().find(|(meter, _)| *meter == wanted);
        found.and_then(|(meter, file)| meter.read(file).ok()).and_then(|v| i64::try_from(v).ok()).unwrap_or(-1)
    }

    /// CPU of the group, nanoseconds; -1 where there is no group.
    fn cpu_ns(&self) -> i64 {
        // Asking for one's own CPU time brings the running task's charge up to date first; without it
        // up to a scheduler tick of the time before this moment would be charged after it.
        let _ = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let v1 = self.meter(Meter::CpuacctUsage);
        if v1 >= 0 { v1 } else { self.meter(Meter::CpuStat) }
    }

    /// Writes the differences of all meters since `before` on the board.
    pub fn settle(&self, before: &Before, own_cpu_ns: i64) {
        let cpu = self.cpu_ns();
        let peak = self.meter(Meter::MemoryPeak);
        let kills = self.meter(Meter::OomKills);
        let refused = self.meter(Meter::ForksRefused);
        self.board.update(|report| {
            if cpu >= 0 && report.cpu_ns >= 0 {
                report.cpu_ns = (cpu - report.cpu_ns - own_cpu_ns).max(0);
            }
            report.peak_bytes = if peak < 0 { -1 } else { (peak - self.own_memory).max(0) };
            report.oom_kills = (kills - before.oom_kills).max(0);
            report.pid_refusals += (refused - before.pid_refusals).max(0);
        });
    }

    /// Takes the meters' state before a trial.
    pub fn before(&self) -> Before {
        for (meter, file) in self.meters.iter().filter(|(meter, _)| *meter == Meter::MemoryPeak) {
            let _ = meter.reset(file);
        }
        Before { oom_kills: self.meter(Meter::OomKills), pid_refusals: self.meter(Meter::ForksRefused) }
    }
}

/// The meters before a trial.
pub struct Before {
    oom_kills: i64,
    pid_refusals: i64,
}

/// Init: never returns. Its exit ends the namespace and everything in it.
pub fn init(stage: &Stage, launch: &Launch, descriptors: &[OwnedFd], before: &Before) -> ! {
    let code = match run(stage, launch, descriptors, before) {
        Ok(()) => 0,
        Err(Failed(step, errno)) => {
            stage.board.update(|report| {
                report.start_step = step as i32;
                report.start_errno = errno as i32;
            });
            1
        }
    };
    // SAFETY: a forked child leaves without the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

fn run(stage: &Stage, launch: &Launch, descriptors: &[OwnedFd], before: &Before) -> Result<(), Failed> {
    confine::die_with_parent();
    if stage.setup.isolate {
        scratch::mount_fresh(stage.setup.limits.scratch_bytes).during(Step::Scratch)?;
        root::uncover(&stage.setup).during(Step::Scratch)?;
        mount_proc(stage.proc).during(Step::Proc)?;
        if stage.setup.network == Network::Loopback {
            confine::raise_loopback().during(Step::Loopback)?;
        }
    } else {
        confine::adopt_orphans();
    }
    let children = block_child_signal().during(Step::Fork)?;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).during(Step::Fork)?;
    let words = Words::new(stage, launch).during(Step::Execute)?;
    stage.go.read().during(Step::Fork)?;
    // SAFETY: this process is single-threaded, and both sides go on as ordinary processes.
    let program = match unsafe { crate::clone_process(0, None) }.during(Step::Fork)? {
        None => execute(stage, descriptors, &words, &theirs),
        Some(program) => program,
    };
    let own_before = own_cpu_ns();
    drop(theirs);
    let listener = if stage.notify { confine::receive_descriptor(&ours) } else { None };
    let status = attend(stage, program, &children, listener.as_ref());
    let ended = monotonic_ns();
    stage.board.update(|report| {
        report.ended_ns = ended;
        report.wait_status = status;
    });
    end_everything(stage.setup.isolate);
    stage.settle(before, own_cpu_ns() - own_before);
    note_usage(stage, program);
    if let (true, Some(pipe)) = (launch.files, descriptors.get(3)) {
        files::send(pipe);
    }
    Ok(())
}

/// Mounts the trial's own view of its processes over the host's.
pub fn mount_proc(how: ProcMount) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match how {
        ProcMount::Subset => mount(Some("proc"), "/proc", Some("proc"), flags, Some("subset=pid")),
        ProcMount::Full => mount(Some("proc"), "/proc", Some("proc"), flags | MsFlags::MS_RDONLY, None::<&str>),
        ProcMount::Empty => mount(Some("tmpfs"), "/proc", Some("tmpfs"), flags | MsFlags::MS_RDONLY, None::<&str>),
    }
}

/// Exits of children are read from a descriptor, so that one `poll` waits for them and for refusals.
fn block_child_signal() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// What `execve` needs, built before the fork.
struct Words {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
}

impl Words {
    fn new(stage: &Stage, launch: &Launch) -> nix::Result<Self> {
        let c = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
        let program = launch.argv.first().ok_or(Errno::EINVAL)?;
        let path = stage.setup.environment.iter().find(|(name, _)| name == "PATH").map_or("", |(_, v)| v.as_str());
        let candidates = if program.contains('/') {
            vec![c(program)?]
        } else {
            path.split(':').map(|directory| c(&format!("{directory}/{program}"))).collect::<nix::Result<_>>()?
        };
        Ok(Self {
            candidates,
            argv: launch.argv.iter().map(|word| c(word)).collect::<nix::Result<_>>()?,
            environment: (stage.setup.environment.iter())
                .map(|(name, value)| c(&format!("{name}={value}")))
                .collect::<nix::Result<_>>()?,
            directory: c(&launch.cwd)?,
        })
    }
}

/// The program's process: gives up everything, notes the time, becomes the program. Never returns.
fn execute(stage: &Stage, descriptors: &[OwnedFd], words: &Words, listener_to: &OwnedFd) -> ! {
    let Err(Failed(step, errno)) = become_program(stage, descriptors, words, listener_to);
    stage.board.update(|report| {
        report.start_step = step as i32;
        report.start_errno = errno as i32;
    });
    // SAFETY: a forked child leaves without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

fn become_program(
    stage: &Stage,
    descriptors: &[OwnedFd],
    words: &Words,
    listener_to: &OwnedFd,
) -> Result<Infallible, Failed> {
    nix::unistd::chdir(words.directory.as_c_str()).during(Step::Directory)?;
    for (number, descriptor) in descriptors.iter().take(3).enumerate() {
        // SAFETY: both numbers are open descriptors; the copy loses close-on-exec, as a standard one must.
        Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number as RawFd) }).during(Step::Descriptors)?;
    }
    confine::unblock_signals();
    if stage.setup.isolate {
        confine::landlock(&stage.setup).during(Step::Landlock)?;
        confine::drop_capabilities().during(Step::Capabilities)?;
        let listener = filter::install(&stage.filter, stage.notify).during(Step::Filter)?;
        if let Some(listener) = listener {
            confine::send_descriptor(listener_to, &listener).during(Step::Filter)?;
        }
    }
    let argv = pointers(&words.argv);
    let environment = pointers(&words.environment);
    let mut failure = Errno::ENOENT;
    stage.board.update(|report| {
        report.cpu_ns = stage.cpu_ns();
        report.started_ns = monotonic_ns();
    });
    for candidate in &words.candidates {
        // SAFETY: all three are null-terminated and live until the call replaces this program.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
        // As execvp does: go on along the PATH, but remember a file that was there and could not be run.
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            errno => failure = errno,
        }
    }
    Err(Failed(Step::Execute, failure))
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Waits for the program's end, reaping whatever else ends and answering refused calls meanwhile.
fn attend(stage: &Stage, program: Pid, children: &SignalFd, listener: Option<&OwnedFd>) -> i32 {
    let mut listener = listener;
    loop {
        if let Some(status) = reap(program) {
            return status;
        }
        let mut waiting = vec![PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        waiting.extend(listener.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut waiting, PollTimeout::NONE);
        let announced = waiting.get(1).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if announced.contains(PollFlags::POLLIN) {
            let said = listener.and_then(|fd| filter::answer_one(fd.as_raw_fd(), |call| stage.decide(call)));
            match said {
                Some((_, Answer::NoRoom)) => stage.board.update(|report| report.pid_refusals += 1),
                Some(((number, argument), Answer::Refused)) => {
                    stage.board.update(|report| report.refuse(number, argument));
                }
                Some((_, Answer::Go)) | None => {}
            }
        } else if !announced.is_empty() {
            // Every process under the filter is gone.
            listener = None;
        }
        let _ = children.read_signal();
    }
}

/// Reaps all that have ended; the program's status when it is among them.
fn reap(program: Pid) -> Option<i32> {
    let mut found = None;
    loop {
        let mut status = 0;
        // SAFETY: waits for any child without blocking, writing to a live integer.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            pid if pid == program.as_raw() => found = Some(status),
            pid if pid > 0 => {}
            _ => return found,
        }
    }
}

/// Kills and reaps whatever the program left behind.
pub fn end_everything(isolated: bool) {
    if isolated {
        // Only within a namespace of our own does -1 mean "all that this program started".
        debug_assert_eq!(nix::unistd::getpid().as_raw(), 1);
        if nix::unistd::getpid().as_raw() == 1 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
        while waitpid(None, None).is_ok() {}
        return;
    }
    // Without a namespace: as subreaper every orphan becomes our child; kill until there is none.
    loop {
        let listed = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in listed.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(_) => {}
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Tasks in this process namespace besides init itself.
fn count_tasks() -> u64 {
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|pid| pid != 1);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_process);
    processes.map(|process| fs::read_dir(process.path().join("task")).map_or(0, |tasks| tasks.count() as u64)).sum()
}

fn note_usage(stage: &Stage, program: Pid) {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
    let newest = next_process_id();
    stage.board.update(|report| {
        if let Some(usage) = usage {
            let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            report.rusage_cpu_ns = cpu * 1000;
            report.rusage_peak_bytes = usage.max_rss() * 1024;
            report.switches = usage.involuntary_context_switches();
        }
        if stage.setup.isolate {
            // Ids of a fresh namespace are handed out in order, to threads and processes alike.
            report.tasks = newest.map_or(-1, |newest| i64::from(newest - program.as_raw() - 1));
        }
    });
}

/// The process id that a new child gets: a child that exits at once, sharing our memory.
fn next_process_id() -> Option<i32> {
    let mut stack = [0u8; 4096];
    let leave = Box::new(|| 0);
    // SAFETY: CLONE_VFORK suspends us until the child has left, so the borrowed stack outlives it.
    let child = unsafe {
        nix::sched::clone(
            leave,
            &mut stack,
            nix::sched::CloneFlags::CLONE_VM | nix::sched::CloneFlags::CLONE_VFORK,
            Some(libc::SIGCHLD),
        )
    };
    let child = child.ok()?;
    let _ = waitpid(child, None);
    Some(child.as_raw())
}

fn monotonic_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(-1, |t| t.num_nanoseconds())
}

fn own_cpu_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, |t| t.num_nanoseconds())
}
