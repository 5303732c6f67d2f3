//! One trial as the harness drives it: feed, read, hash, watch the limits, settle what happened.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nightfleet_spawner::board::{Report, Step};
use nightfleet_spawner::meter::Meter;
use nightfleet_spawner::refused;
use nightfleet_spawner::wire::{self, Launch, Reply, Request};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::sandbox::{Sandbox, spawner_gone};
use crate::tree;

/// How often a running trial is looked at when nothing else happens: for Ctrl-C and for limits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much later than the harness the spawner ends a trial by itself.
const GRACE: Duration = Duration::from_secs(10);
/// What is kept of standard error: its end.
const STDERR_TAIL_BYTES: usize = 64 << 10;
/// Read at once. A pipe holds this much where the kernel allows, so that the program seldom waits.
const PIPE_BYTES: usize = 1 << 20;

/// How a trial ended. All but `Ok` are facts about the candidate, never errors of the harness.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// Exit status 0, as many records as cases.
    #[default]
    Ok,
    /// Another exit status.
    Exit,
    /// Killed by a signal of its own doing.
    Signal,
    /// Ran past the deadline.
    Timeout,
    /// Wrote more than the output limit.
    Output,
    /// Used more memory than the limit.
    Memory,
    /// Tried to have more tasks than the limit.
    Pids,
    /// Wrote a file larger than the limit.
    FileSize,
    /// The number or form of its records is wrong.
    Records,
    /// Could not be executed.
    Start,
}

impl Outcome {
    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Exit => "exit",
            Outcome::Signal => "signal",
            Outcome::Timeout => "timeout",
            Outcome::Output => "output",
            Outcome::Memory => "memory",
            Outcome::Pids => "pids",
            Outcome::FileSize => "file-size",
            Outcome::Records => "records",
            Outcome::Start => "start",
        }
    }
}

/// One run to be made.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// Working directory inside.
    pub cwd: &'a str,
    /// Fed on standard input, which then ends.
    pub stdin: &'a [u8],
    /// From the launch to the end.
    pub timeout: Duration,
    /// Standard output and standard error each, and all output files together.
    pub output_bytes: u64,
    /// Whether the files under /out are fetched.
    pub files: bool,
}

/// What one run did. -1 where unknown.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// How it ended.
    pub outcome: Outcome,
    /// Exit status, signal number, or the error number of a start that failed.
    pub status: i32,
    /// From just before `execve` to the exit.
    pub wall_ns: i64,
    /// User + system of the whole tree.
    pub cpu_ns: i64,
    /// Peak memory of the whole tree.
    pub peak_bytes: i64,
    /// Involuntary context switches.
    pub switches: i64,
    /// Threads and children created.
    pub tasks: i64,
    /// The end of standard error.
    pub stderr: Vec<u8>,
    /// Refused system calls, in words, with how often.
    pub denied: Vec<(String, u64)>,
    /// What came over the pipe for output files.
    pub files: Vec<u8>,
}

/// Why the harness ended a trial.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Breach {
    Cancelled,
    Of(Outcome),
}

/// Runs one program in the sandbox. Standard output goes to `sink`, which says `false` to stop the
/// program (its outcome is then `Records`). Errors: `Machine` when the sandbox itself failed,
/// `Interrupted` when `cancel` was set; the tree is gone in either case.
pub fn run(
    sandbox: &mut Sandbox,
    plan: &Plan,
    cancel: &AtomicBool,
    sink: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Trial> {
    block_pipe_signal();
    sandbox.mend(cancel)?;
    sandbox.poisoned = true;
    let (trial, whole) = Run::launch(sandbox, plan)?.attend(cancel, sink)?;
    sandbox.poisoned = !whole;
    trial.ok_or(Error::Interrupted)
}

struct Run<'a> {
    sandbox: &'a Sandbox,
    plan: &'a Plan<'a>,
    stdin: Option<OwnedFd>,
    fed: usize,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    files: Option<OwnedFd>,
    launched: Instant,
    init: Option<i32>,
    breach: Option<Breach>,
    report: Option<Report>,
    seen: Seen,
    trial: Trial,
    refusals_before: u64,
    kills_before: u64,
    spawner_killed: bool,
}

/// Output counted so far, and the peak seen by polling.
#[derive(Default)]
struct Seen {
    stdout: u64,
    stderr: u64,
    peak_bytes: u64,
}

impl<'a> Run<'a> {
    fn launch(sandbox: &'a Sandbox, plan: &'a Plan<'a>) -> Result<Self> {
        let (stdin_theirs, stdin) = pipe()?;
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        let files = if plan.files { Some(pipe()?) } else { None };
        let _ = fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
        let (files, files_theirs) = files.unzip();
        let theirs: Vec<_> = [Some(stdin_theirs), Some(stdout_theirs), Some(stderr_theirs), files_theirs]
            .into_iter()
            .flatten()
            .collect();
        for ours in [Some(&stdin), Some(&stdout), Some(&stderr), files.as_ref()].into_iter().flatten() {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| machine("setting up a pipe", errno))?;
        }
        let deadline_ms = plan.timeout.saturating_add(GRACE).as_millis().min(i32::MAX as u128) as u32;
        let launch = Launch { argv: plan.argv.to_vec(), cwd: sandbox.place(plan.cwd), deadline_ms, files: plan.files };
        let run = Self {
            sandbox,
            plan,
            stdin: Some(stdin),
            fed: 0,
            stdout: Some(stdout),
            stderr: Some(stderr),
            files,
            launched: Instant::now(),
            init: None,
            breach: None,
            report: None,
            seen: Seen::default(),
            trial: Trial::default(),
            refusals_before: sandbox.meter(Meter::ForksRefused),
            kills_before: sandbox.meter(Meter::OomKills),
            spawner_killed: false,
        };
        sandbox.tell(&Request::Launch(launch), &wire::raw(&theirs))?;
        Ok(run)
    }

    /// Drives the run to its end; `None` when it was cancelled. Also whether the spawner is still there.
    fn attend(mut self, cancel: &AtomicBool, sink: &mut dyn FnMut(&[u8]) -> bool) -> Result<(Option<Trial>, bool)> {
        let mut buffer = vec![0; PIPE_BYTES.min(256 << 10)];
        let mut looked = Instant::now();
        while self.report.is_none() {
            let ready = self.wait(looked)?;
            if ready.stdin {
                self.feed();
            }
            if ready.stdout {
                self.drain_stdout(&mut buffer, sink);
            }
            if ready.stderr {
                self.drain_stderr(&mut buffer);
            }
            if ready.files {
                self.drain_files(&mut buffer);
            }
            if ready.socket {
                self.hear()?;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look(cancel);
            }
            if self.launched.elapsed() >= self.plan.timeout {
                self.end(Breach::Of(Outcome::Timeout));
            }
        }
        // Every writer is dead now, so what is left in the pipes is all there is.
        self.drain_stdout(&mut buffer, sink);
        self.drain_stderr(&mut buffer);
        self.drain_files(&mut buffer);
        let whole = !self.spawner_killed;
        Ok((self.settle(), whole))
    }

    fn wait(&self, looked: Instant) -> Result<Ready> {
        let sources = [
            self.stdin.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLOUT)),
            self.stdout.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.stderr.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.files.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            Some((self.sandbox.socket.as_fd(), PollFlags::POLLIN)),
        ];
        let mut waiting: Vec<_> = sources.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
        let look = LOOK_EVERY.saturating_sub(looked.elapsed());
        let left = self.plan.timeout.saturating_sub(self.launched.elapsed());
        // Rounded up: a wait of 0 ms would spin through the last millisecond.
        let timeout = PollTimeout::try_from(look.min(left) + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(machine("waiting for a trial", errno)),
        }
        let mut answers = waiting.iter().map(|fd| fd.any() == Some(true));
        let mut ready = |source: &Option<_>| source.is_some() && answers.next() == Some(true);
        Ok(Ready {
            stdin: ready(&sources[0]),
            stdout: ready(&sources[1]),
            stderr: ready(&sources[2]),
            files: ready(&sources[3]),
            socket: ready(&sources[4]),
        })
    }

    fn feed(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        match nix::unistd::write(stdin, &self.plan.stdin[self.fed..]) {
            Ok(written) => self.fed += written,
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            // It closed its input without reading all of it, as a filter may.
            Err(_) => self.fed = self.plan.stdin.len(),
        }
        if self.fed == self.plan.stdin.len() {
            self.stdin = None;
        }
    }

    fn drain_stdout(&mut self, buffer: &mut [u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
        while let Some(length) = read_some(&mut self.stdout, buffer) {
            self.seen.stdout += length as u64;
            if self.breach.is_some() {
                continue;
            }
            if self.seen.stdout > self.plan.output_bytes {
                self.end(Breach::Of(Outcome::Output));
            } else if !sink(&buffer[..length]) {
                self.end(Breach::Of(Outcome::Records));
            }
            if self.report.is_none() {
                // Back to the deadline and the other pipes: endless output must not hold us here.
                return;
            }
        }
    }

    fn drain_stderr(&mut self, buffer: &mut [u8]) {
        while let Some(length) = read_some(&mut self.stderr, buffer) {
            self.seen.stderr += length as u64;
            let tail = &mut self.trial.stderr;
            tail.extend_from_slice(&buffer[..length]);
            if tail.len() > 2 * STDERR_TAIL_BYTES {
                tail.drain(..tail.len() - STDERR_TAIL_BYTES);
            }
            if self.seen.stderr > self.plan.output_bytes {
                self.end(Breach::Of(Outcome::Output));
            }
            if self.report.is_none() {
                return;
            }
        }
    }

    fn drain_files(&mut self, buffer: &mut [u8]) {
        while let Some(length) = read_some(&mut self.files, buffer) {
            if self.trial.files.len() as u64 + length as u64 > self.plan.output_bytes {
                self.end(Breach::Of(Outcome::Output));
                continue;
            }
            self.trial.files.extend_from_slice(&buffer[..length]);
        }
    }

    fn hear(&mut self) -> Result<()> {
        match wire::receive::<Reply>(self.sandbox.socket.as_raw_fd()) {
            Ok(Some((Reply::Started(init), _))) => self.init = Some(init),
            Ok(Some((Reply::Done(report), _))) => self.report = Some(*report),
            // The kernel may choose the spawner when it kills for want of memory; all else is dead then too.
            _ if self.sandbox.meter(Meter::OomKills) > self.kills_before => {
                self.spawner_killed = true;
                self.breach.get_or_insert(Breach::Of(Outcome::Memory));
                self.report = Some(Report::default());
            }
            _ => return Err(spawner_gone("it ended during a trial")),
        }
        Ok(())
    }

    /// What is not announced by any descriptor: Ctrl-C and the limits that others enforce or nobody does.
    fn look(&mut self, cancel: &AtomicBool) {
        if cancel.load(Ordering::Relaxed) {
            self.end(Breach::Cancelled);
        }
        let counts = |meter| self.sandbox.counts(meter);
        let (counts_forks, counts_kills) = (counts(Meter::ForksRefused), counts(Meter::OomKills));
        if counts_forks && self.sandbox.meter(Meter::ForksRefused) > self.refusals_before {
            self.end(Breach::Of(Outcome::Pids));
        }
        if counts_kills && self.sandbox.meter(Meter::OomKills) > self.kills_before {
            self.end(Breach::Of(Outcome::Memory));
        }
        if let (false, Some(init)) = (counts_forks && counts_kills && counts(Meter::MemoryPeak), self.init) {
            let usage = tree::usage(init);
            self.seen.peak_bytes = self.seen.peak_bytes.max(usage.resident_bytes);
            if usage.resident_bytes > self.sandbox.memory_bytes {
                self.end(Breach::Of(Outcome::Memory));
            }
            // Init itself is one of them.
            if !counts_forks && usage.tasks > self.sandbox.pids + 1 {
                self.end(Breach::Of(Outcome::Pids));
            }
        }
    }

    /// Ends the tree; the first reason stands.
    fn end(&mut self, breach: Breach) {
        if self.breach.is_none() && self.report.is_none() {
            let _ = wire::send(self.sandbox.socket.as_raw_fd(), &Request::Kill, &[]);
        }
        self.breach.get_or_insert(breach);
    }

    fn settle(mut self) -> Option<Trial> {
        let report = self.report?;
        let mut trial = std::mem::take(&mut self.trial);
        if trial.stderr.len() > STDERR_TAIL_BYTES {
            trial.stderr.drain(..trial.stderr.len() - STDERR_TAIL_BYTES);
        }
        (trial.outcome, trial.status) = outcome(&report, self.breach)?;
        // Where init was killed, it could not note the end; what we saw is a little later.
        let ended_ns = if report.ended_ns > 0 { report.ended_ns } else { monotonic_ns() };
        trial.wall_ns = if report.started_ns > 0 { ended_ns - report.started_ns } else { -1 };
        let grouped = self.sandbox.cpu_source() != "rusage";
        trial.cpu_ns = if grouped { report.cpu_ns } else { report.rusage_cpu_ns };
        let polled = i64::try_from(self.seen.peak_bytes).unwrap_or(i64::MAX).max(report.rusage_peak_bytes);
        trial.peak_bytes = if report.peak_bytes >= 0 { report.peak_bytes } else { polled };
        trial.switches = report.switches;
        trial.tasks = report.tasks;
        let known = report.refusals.iter().take(report.refusal_count as usize);
        trial.denied = known.map(|r| (refused::describe(r.number, r.argument), r.count)).collect();
        if trial.outcome == Outcome::Signal && trial.status == libc::SIGSYS {
            trial.denied.push(("a system call of another ABI (32-bit or x32): no setting allows it".to_owned(), 1));
        }
        if report.start_errno != 0 {
            let step = Step::describe(report.start_step);
            let why = format!("nightfleet: {step}: {}\n", Errno::from_raw(report.start_errno).desc());
            trial.stderr.extend_from_slice(why.as_bytes());
        }
        Some(trial)
    }
}

/// What the facts come to. `None` for a cancelled run.
fn outcome(report: &Report, breach: Option<Breach>) -> Option<(Outcome, i32)> {
    let signal = libc::WTERMSIG(report.wait_status);
    Some(match breach {
        Some(Breach::Cancelled) => return None,
        Some(Breach::Of(outcome)) => (outcome, 0),
        None if report.start_errno != 0 => (Outcome::Start, report.start_errno),
        None if report.oom_kills > 0 => (Outcome::Memory, 0),
        None if report.pid_refusals > 0 => (Outcome::Pids, 0),
        // Init died although nobody here asked for it: only the kernel does that, for want of memory.
        None if report.ended_ns < 0 => (Outcome::Memory, 0),
        None if libc::WIFSIGNALED(report.wait_status) && signal == libc::SIGXFSZ => (Outcome::FileSize, signal),
        None if libc::WIFSIGNALED(report.wait_status) => (Outcome::Signal, signal),
        None => match libc::WEXITSTATUS(report.wait_status) {
            0 => (Outcome::Ok, 0),
            status => (Outcome::Exit, status),
        },
    })
}

struct Ready {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    files: bool,
    socket: bool,
}

/// Reads what is there; `None` when nothing is now. Closes the pipe at its end.
fn read_some(pipe: &mut Option<OwnedFd>, buffer: &mut [u8]) -> Option<usize> {
    match nix::unistd::read(pipe.as_ref()?, buffer) {
        Ok(0) => {
            *pipe = None;
            None
        }
        Ok(length) => Some(length),
        Err(Errno::EINTR) => Some(0),
        Err(_) => None,
    }
}

/// A program that closes its input early must not kill the harness, whatever Python has made of SIGPIPE.
/// Trials run on threads of ours, so nobody else's mask changes.
fn block_pipe_signal() {
    let mut mask = nix::sys::signal::SigSet::empty();
    mask.add(nix::sys::signal::Signal::SIGPIPE);
    let _ = mask.thread_block();
}

fn monotonic_ns() -> i64 {
    use nix::sys::time::TimeValLike;
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    nix::time::clock_gettime(clock).map_or(-1, |time| time.num_nanoseconds())
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| machine("making a pipe", errno))
}

fn machine(what: &str, errno: Errno) -> Error {
    Error::Machine(format!("{what}: {}", errno.desc()))
}
