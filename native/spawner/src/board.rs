//! The board: one shared page on which the processes of a trial write what they saw.
//!
//! It is mapped by the spawner, inherited by the trial's init and by the program's process until its
//! `execve`, which unmaps it: the candidate's own code never has it.

use std::ptr::NonNull;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Distinct refused calls remembered; more are counted under the last.
pub const MAX_REFUSALS: usize = 24;

/// One kind of refused system call.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[repr(C)]
pub struct Refusal {
    /// System call number.
    pub number: i64,
    /// Its first argument (the address family of `socket`, the option of `prctl`).
    pub argument: u64,
    /// How often.
    pub count: u64,
}

/// What the parent is told at the end. Times in nanoseconds, sizes in bytes, -1 where unknown.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[repr(C)]
pub struct Report {
    /// Error number of the step that kept the program from starting; 0 when it was executed.
    pub start_errno: i32,
    /// The step that failed: see [`Step`].
    pub start_step: i32,
    /// `CLOCK_MONOTONIC` just before `execve`.
    pub started_ns: i64,
    /// `CLOCK_MONOTONIC` when the program's exit was seen.
    pub ended_ns: i64,
    /// The `wait` status of the program; meaningless where `ended_ns` is -1.
    pub wait_status: i32,
    /// CPU (user + system) of the whole tree from the control group.
    pub cpu_ns: i64,
    /// CPU of the reaped tree from `getrusage`: can be hidden from, used where there is no group.
    pub rusage_cpu_ns: i64,
    /// Peak memory above what stood before the program, from the control group.
    pub peak_bytes: i64,
    /// Largest resident set of one reaped process.
    pub rusage_peak_bytes: i64,
    /// Involuntary context switches of the reaped tree.
    pub switches: i64,
    /// Threads and children created beyond the program itself, counted by process id.
    pub tasks: i64,
    /// Control-group kills for want of memory during the trial.
    pub oom_kills: i64,
    /// Forks refused by the control group's limit during the trial.
    pub pid_refusals: i64,
    /// How many of `refusals` are used.
    pub refusal_count: u32,
    /// Refused system calls.
    pub refusals: [Refusal; MAX_REFUSALS],
}

impl Default for Report {
    fn default() -> Self {
        Self {
            start_errno: 0,
            start_step: 0,
            started_ns: -1,
            ended_ns: -1,
            wait_status: 0,
            cpu_ns: -1,
            rusage_cpu_ns: -1,
            peak_bytes: -1,
            rusage_peak_bytes: -1,
            switches: -1,
            tasks: -1,
            oom_kills: 0,
            pid_refusals: 0,
            refusal_count: 0,
            refusals: [Refusal::default(); MAX_REFUSALS],
        }
    }
}

impl Report {
    /// Counts one refused call; the table is bounded, so a flood of kinds lands on the last entry.
    pub fn refuse(&mut self, number: i64, argument: u64) {
        let used = self.refusal_count as usize;
        let known = self.refusals[..used].iter_mut().find(|r| r.number == number && r.argument == argument);
        if let Some(entry) = known {
            entry.count += 1;
        } else if used < MAX_REFUSALS {
            self.refusals[used] = Refusal { number, argument, count: 1 };
            self.refusal_count += 1;
        } else {
            self.refusals[MAX_REFUSALS - 1].count += 1;
        }
    }
}

/// The steps between init's fork and the program's `execve`, for error messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum Step {
    /// Fresh file systems.
    Scratch = 1,
    /// The trial's own /proc.
    Proc,
    /// The loopback interface.
    Loopback,
    /// Forking the program's process.
    Fork,
    /// The working directory.
    Directory,
    /// Standard descriptors.
    Descriptors,
    /// Landlock.
    Landlock,
    /// Dropping capabilities.
    Capabilities,
    /// The system-call filter.
    Filter,
    /// `execve` itself: the only step that is the candidate's doing.
    Execute,
}

impl Step {
    /// What was being done, in words; "unknown step" for a number that is none.
    pub fn describe(number: i32) -> &'static str {
        const WORDS: [&str; 10] = [
            "mounting the fresh file systems",
            "mounting the trial's own /proc",
            "bringing up the loopback interface",
            "forking the program",
            "entering the working directory",
            "placing the standard descriptors",
            "restricting by Landlock",
            "dropping capabilities",
            "installing the system-call filter",
            "executing the program",
        ];
        usize::try_from(number - 1).ok().and_then(|i| WORDS.get(i)).copied().unwrap_or("unknown step")
    }
}

/// A [`Report`] in shared memory.
pub struct Board(NonNull<Report>);

impl Board {
    /// Maps a fresh board. Errors: what `mmap` says.
    pub fn map() -> Result<Self, Errno> {
        // SAFETY: an anonymous shared mapping of a constant, non-zero size aliases nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Report>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let board = Self(NonNull::new(address.cast()).ok_or(Errno::ENOMEM)?);
        board.update(|report| *report = Report::default());
        Ok(board)
    }

    /// Changes the report in place. The processes of one trial take turns (each writes its own fields,
    /// and the reader waits for them to be gone), so no lock is needed.
    pub fn update<R>(&self, change: impl FnOnce(&mut Report) -> R) -> R {
        // SAFETY: the mapping is page-aligned, lives as long as `self`, and holds a plain `repr(C)` struct.
        change(unsafe { &mut *self.0.as_ptr() })
    }

    /// A copy of what stands there now.
    pub fn read(&self) -> Report {
        // SAFETY: as in `update`; volatile because another process wrote it.
        unsafe { self.0.as_ptr().read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_kind_and_bounded() {
        let mut report = Report::default();
        for _ in 0..3 {
            report.refuse(41, 2);
        }
        for number in 0..100 {
            report.refuse(1000 + number, 0);
        }
        assert_eq!(report.refusals[0], Refusal { number: 41, argument: 2, count: 3 });
        assert_eq!(report.refusal_count as usize, MAX_REFUSALS);
        assert_eq!(report.refusals.iter().map(|r| r.count).sum::<u64>(), 103);
    }

    #[test]
    fn a_board_is_shared_across_fork() {
        let board = Board::map().unwrap();
        // SAFETY: the child only writes to the board and exits.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                board.update(|report| report.tasks = 7);
                // SAFETY: leaves without running the test harness's exit handlers.
                unsafe { libc::_exit(0) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(board.read().tasks, 7);
            }
        }
    }
}
