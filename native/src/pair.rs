//! Timed pairs: two trials on the same block, baseline and candidate, in an order drawn by coin.
//!
//! The draw and the run are two calls, so that the caller can record the coin before anything runs:
//! an order that could be chosen, or forgotten, after the fact would be no coin.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::batch::{Shared, draw_below, hold};
use crate::error::{Error, Result};
use crate::load::{Clocks, Load, Snapshot};
use crate::workload::{BlockRun, Bounds, Workload};

/// Fewest fresh copies of each side. Physical layout differs from copy to copy; one copy would make its
/// luck look like the program's.
pub const MIN_COPIES: usize = 4;
/// A leased core is calm when at most this share of it is busy with others while nothing of ours runs.
pub const MAX_BUSY_SHARE: f64 = 0.10;
/// How long a load probe looks: a first glance of 5 ticks of 10 ms, and where that saw anything at all, 20
/// ticks, which resolve 5%.
pub const GLANCE: Duration = Duration::from_millis(50);
/// See [`GLANCE`].
pub const PROBE_WINDOW: Duration = Duration::from_millis(200);

/// The index of a pair that is never counted.
pub const WARM_UP: u64 = u64::MAX;

/// What is fixed for one pair before it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draw {
    /// Counts the draws of a runner from 0.
    pub index: u64,
    /// The cases.
    pub block: Vec<i64>,
    /// The coin.
    pub candidate_first: bool,
    /// Which copy of the baseline.
    pub baseline_copy: usize,
    /// Which copy of the candidate.
    pub candidate_copy: usize,
}

/// A pair that was run.
#[derive(Clone, Debug)]
pub struct Pair {
    /// As it was drawn.
    pub draw: Draw,
    /// The baseline's trial.
    pub baseline: BlockRun,
    /// The candidate's trial.
    pub candidate: BlockRun,
    /// Cases whose records differ, in block order; a missing record differs.
    pub diverged: Vec<i64>,
    /// Why the pair does not count: stolen time or a suspend, nothing that a trial can do.
    pub void: Option<String>,
}

/// Both sides and what they share.
pub struct PairRunner {
    baseline: Vec<Shared>,
    candidate: Vec<Shared>,
    workload: Workload,
    cores: Vec<usize>,
    harness: Vec<usize>,
    seed: u64,
    bounds: Bounds,
    next: u64,
}

impl PairRunner {
    /// `cores` are the leased ones, `harness` those left to the harness. Errors: `User` for fewer than
    /// [`MIN_COPIES`] a side, sandboxes that are not pinned to the leased cores, or a filtered workload.
    pub fn new(
        baseline: Vec<Shared>,
        candidate: Vec<Shared>,
        workload: Workload,
        (cores, harness): (Vec<usize>, Vec<usize>),
        seed: u64,
        bounds: Bounds,
    ) -> Result<Self> {
        for (name, side) in [("baseline", &baseline), ("candidate", &candidate)] {
            if side.len() < MIN_COPIES {
                return Err(Error::User(format!("{name}: {} copies; the least is {MIN_COPIES}", side.len())));
            }
            for sandbox in side {
                let pinned = hold(sandbox)?.setup.cores.clone();
                if pinned != cores {
                    return Err(Error::User(format!(
                        "{name}: a sandbox is pinned to cores {pinned:?}, the lease holds {cores:?}"
                    )));
                }
            }
        }
        if workload.has_filter() {
            return Err(Error::User("workload: a filtered workload cannot be timed; time it without".to_owned()));
        }
        Ok(Self { baseline, candidate, workload, cores, harness, seed, bounds, next: 0 })
    }

    /// Waits until the leased cores are calm, then draws coin and copies. Errors: `Machine` when they
    /// are not calm within `wait`; `Interrupted`.
    pub fn draw(&mut self, block: Vec<i64>, wait: Duration, cancel: &AtomicBool) -> Result<Draw> {
        self.workload.check_block(&block)?;
        self.await_calm(wait, cancel)?;
        let draw = self.toss(self.next, block)?;
        self.next += 1;
        Ok(draw)
    }

    /// Draws a pair that warms caches up and is never counted; it takes no index.
    pub fn warm_up(&mut self, block: Vec<i64>) -> Result<Draw> {
        self.workload.check_block(&block)?;
        self.toss(WARM_UP, block)
    }

    fn toss(&self, index: u64, block: Vec<i64>) -> Result<Draw> {
        Ok(Draw {
            index,
            block,
            candidate_first: draw_below(2)? == 1,
            baseline_copy: draw_below(self.baseline.len() as u64)? as usize,
            candidate_copy: draw_below(self.candidate.len() as u64)? as usize,
        })
    }

    fn await_calm(&self, wait: Duration, cancel: &AtomicBool) -> Result<()> {
        let started = Instant::now();
        while let Some((share, core)) = self.disturbance(cancel)? {
            if started.elapsed() >= wait {
                return Err(Error::Machine(format!(
                    "machine too loaded to time: core {core} is {:.0}% busy with others, the limit is {:.0}%, \
                     after waiting {} s; stop what runs there, or time again later",
                    share * 100.0,
                    MAX_BUSY_SHARE * 100.0,
                    wait.as_secs()
                )));
            }
        }
        Ok(())
    }

    /// The busiest leased core, where it is not calm.
    fn disturbance(&self, cancel: &AtomicBool) -> Result<Option<(f64, usize)>> {
        let busiest = |window| -> Result<Option<(f64, usize)>> {
            let load = Load::probe(window, cancel)?;
            let shares = self.cores.iter().filter_map(|core| load.cores.get(core).map(|l| (l.busy + l.stolen, *core)));
            Ok(shares.max_by(|a, b| a.0.total_cmp(&b.0)))
        };
        if busiest(GLANCE)?.is_none_or(|(share, _)| share == 0.0) {
            return Ok(None);
        }
        Ok(busiest(PROBE_WINDOW)?.filter(|(share, _)| *share > MAX_BUSY_SHARE))
    }

    /// Runs a drawn pair. Call it again with the same draw when it was broken off: the coin stays.
    /// Errors: `User` for a draw that is not this runner's, `Machine`, `Interrupted`.
    pub fn run(&self, draw: &Draw, cancel: &AtomicBool) -> Result<Pair> {
        let missing = || Error::User("draw: names a copy that this runner does not have".to_owned());
        if draw.index >= self.next && draw.index != WARM_UP {
            return Err(Error::User(format!("draw: {} was not drawn here (next is {})", draw.index, self.next)));
        }
        let baseline = self.baseline.get(draw.baseline_copy).ok_or_else(missing)?;
        let candidate = self.candidate.get(draw.candidate_copy).ok_or_else(missing)?;
        self.step_aside()?;
        let (before, clocks) = (Snapshot::read()?, Clocks::read()?);
        let (baseline, candidate) = if draw.candidate_first {
            let second = self.trial(candidate, draw, cancel)?;
            (self.trial(baseline, draw, cancel)?, second)
        } else {
            let first = self.trial(baseline, draw, cancel)?;
            (first, self.trial(candidate, draw, cancel)?)
        };
        let void = self.void(&before, &clocks)?;
        let diverged = diverged(&draw.block, &baseline, &candidate);
        Ok(Pair { draw: draw.clone(), baseline, candidate, diverged, void })
    }

    fn trial(&self, sandbox: &Shared, draw: &Draw, cancel: &AtomicBool) -> Result<BlockRun> {
        let mut sandbox = hold(sandbox)?;
        self.workload.run(&mut sandbox, None, &draw.block, self.seed, self.bounds, cancel)
    }

    /// Keeps this thread, which reads and hashes, off the leased cores and their siblings.
    fn step_aside(&self) -> Result<()> {
        let mut set = CpuSet::new();
        for core in &self.harness {
            set.set(*core).map_err(|errno| Error::Machine(format!("core {core}: {errno}")))?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)
            .map_err(|errno| Error::Machine(format!("the harness could not leave the leased cores: {errno}")))
    }

    fn void(&self, before: &Snapshot, clocks: &Clocks) -> Result<Option<String>> {
        let stolen = Snapshot::read()?.stolen_since(before, &self.cores)?;
        if let Some(gap) = Clocks::read()?.suspended_since(clocks) {
            return Ok(Some(format!("the machine was suspended for {:.3} s", gap.as_secs_f64())));
        }
        Ok((stolen > 0).then(|| format!("{} ms were stolen from the leased cores", stolen * 10)))
    }
}

/// Cases whose records differ. Both sides hash under the same seed, so equal digests are equal records.
fn diverged(block: &[i64], baseline: &BlockRun, candidate: &BlockRun) -> Vec<i64> {
    let differs = |i: &usize| {
        let (b, c) = (baseline.digests.get(*i), candidate.digests.get(*i));
        b.is_none() || b != c
    };
    (0..block.len()).filter(differs).map(|i| block[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_record_differs_even_when_both_lack_it() {
        let run = |digests: &[[u64; 2]]| BlockRun { digests: digests.to_vec(), ..BlockRun::default() };
        let block = [10, 20, 30];
        let full = run(&[[1, 1], [2, 2], [3, 3]]);
        assert_eq!(diverged(&block, &full, &full.clone()), [0i64; 0]);
        assert_eq!(diverged(&block, &full, &run(&[[1, 1], [2, 9], [3, 3]])), [20]);
        assert_eq!(diverged(&block, &full, &run(&[[1, 1]])), [20, 30]);
        assert_eq!(diverged(&block, &run(&[]), &run(&[])), [10, 20, 30]);
    }
}
