//! Timed pairs: two trials on the same block, baseline and candidate, in an order drawn by coin.
//!
//! The draw and the run are two calls, so that the caller can record the coin before anything runs:
//! an order that could be chosen, or forgotten, after the fact would be no coin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::batch::{Shared, draw_below, hold};
use crate::error::{Error, Result};
use crate::load::{Clocks, Snapshot};
use crate::trial::{self, Plan};
use crate::workload::{BlockRun, Bounds, Unsifted, Workload};

/// Fewest fresh copies of each side. Physical layout differs from copy to copy; one copy would make its
/// luck look like the program's.
pub const MIN_COPIES: usize = 4;
/// A leased core is calm when a thread of ours that wants all of it loses at most this share to others.
pub const MAX_LOST_SHARE: f64 = 0.05;
/// How long that is tried: several turns of the scheduler (about 3 ms each).
const LOOK: Duration = Duration::from_millis(20);
/// How long a leased core is kept busy right before a pair, since recording the coin takes its time.
const ROUSE: Duration = Duration::from_millis(2);

/// The index of a pair that is never counted.
pub const WARM_UP: u64 = u64::MAX;

/// More draws than any timing has; indices beyond it are forged.
const MOST_DRAWS: u64 = 1 << 32;

/// What is fixed for one pair before it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draw {
    /// Counts the draws of a timing from 0.
    pub index: u64,
    /// The cases; the baseline gets all of them.
    pub block: Vec<i64>,
    /// How many of them, from the first on, the candidate gets: all, except for known truths (see [`Terms::trim`]).
    pub candidate_cases: usize,
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

impl Pair {
    /// Whether every case has a record on both sides, equal, and neither output was malformed.
    pub fn identical(&self) -> bool {
        let formed = |run: &BlockRun| run.trial.outcome != trial::Outcome::Records;
        self.diverged.is_empty() && formed(&self.baseline) && formed(&self.candidate)
    }
}

/// Where programs run.
#[derive(Clone, Default)]
pub struct Sides {
    /// Over copies of the baseline's tree.
    pub baseline: Vec<Shared>,
    /// Over copies of the candidate's tree.
    pub candidate: Vec<Shared>,
    /// Where the workload has a filter, two: for the baseline's output and for the candidate's. Each side has its own,
    /// so that what one side's output does to a filter stays with that side.
    pub filters: Vec<Shared>,
}

/// How pairs are run.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of the record hash.
    pub seed: u64,
    /// Of each trial.
    pub bounds: Bounds,
    /// Share of a block's cases, its last ones, that the candidate does not get: a gain of known size for tests of the
    /// judge. 0 in every verification.
    pub trim: f64,
}

/// Both sides and what they share.
pub struct PairRunner {
    sides: Sides,
    workload: Workload,
    cores: Cores,
    terms: Terms,
    /// Blocks of the draws so far, by index.
    drawn: BTreeMap<u64, Vec<i64>>,
}

/// What a lease holds and what it leaves.
#[derive(Clone, Debug, Default)]
pub struct Cores {
    /// Where trials run.
    pub leased: Vec<usize>,
    /// Their SMT siblings, which have to idle.
    pub siblings: Vec<usize>,
    /// Where the harness reads and hashes.
    pub harness: Vec<usize>,
}

impl PairRunner {
    /// Errors: `User` for fewer than [`MIN_COPIES`] a side, sandboxes that are not pinned to the leased cores, and
    /// filters that are not two, or not pinned to the harness's cores; for a trim that cannot be.
    pub fn new(sides: Sides, workload: Workload, cores: Cores, terms: Terms, cancel: &AtomicBool) -> Result<Self> {
        let all: Vec<_> = sides.baseline.iter().chain(&sides.candidate).chain(&sides.filters).collect();
        if (1..all.len()).any(|index| all[..index].iter().any(|other| Arc::ptr_eq(other, all[index]))) {
            return Err(Error::User(
                "the same sandbox stands in two places; every copy needs one of its own".to_owned(),
            ));
        }
        for (name, side) in [("baseline", &sides.baseline), ("candidate", &sides.candidate)] {
            if side.len() < MIN_COPIES {
                return Err(Error::User(format!("{name}: {} copies; the least is {MIN_COPIES}", side.len())));
            }
            for sandbox in side {
                let pinned = hold(sandbox, cancel)?.setup.cores.clone();
                if pinned != cores.leased {
                    return Err(Error::User(format!(
                        "{name}: a sandbox is pinned to cores {pinned:?}, the lease holds {:?}",
                        cores.leased
                    )));
                }
            }
        }
        check_filters(&sides.filters, &workload, &cores, cancel)?;
        check_trim(terms.trim, &workload)?;
        Ok(Self { sides, workload, cores, terms, drawn: BTreeMap::new() })
    }

    /// Waits until the leased cores are calm, then draws coin and copies. Errors: `Machine` when they
    /// are not calm within `wait`; `Interrupted`.
    pub fn draw(&mut self, block: Vec<i64>, wait: Duration, cancel: &AtomicBool) -> Result<Draw> {
        self.workload.check_block(&block)?;
        self.await_calm(wait, cancel)?;
        let draw = self.toss(next_index(&self.drawn), block)?;
        self.drawn.insert(draw.index, draw.block.clone());
        Ok(draw)
    }

    /// Takes up draws that were recorded before this runner was made: each may be run again, and indices go on behind
    /// them. All or none. Errors: `User` for a draw that could not have come from such a runner, or whose index stands
    /// for another block.
    pub fn resume(&mut self, draws: &[Draw]) -> Result<()> {
        let mut drawn = self.drawn.clone();
        for draw in draws {
            self.check_draw(draw)?;
            if draw.index >= MOST_DRAWS {
                return Err(Error::User(format!("draw: no timing has an index of {}", draw.index)));
            }
            let before = drawn.insert(draw.index, draw.block.clone());
            if before.is_some_and(|block| block != draw.block) {
                return Err(Error::User(format!("draw: {} was drawn for another block", draw.index)));
            }
        }
        self.drawn = drawn;
        Ok(())
    }

    /// That a draw is one of this runner's kind: a runner that trims nothing runs no trimmed draw.
    fn check_draw(&self, draw: &Draw) -> Result<()> {
        self.workload.check_block(&draw.block)?;
        let expected = kept(draw.block.len(), self.terms.trim);
        if draw.candidate_cases != expected {
            return Err(Error::User(format!(
                "draw: gives the candidate {} of {} cases; with a trim of {} it gets {expected}",
                draw.candidate_cases,
                draw.block.len(),
                self.terms.trim
            )));
        }
        self.copies(draw).map(drop)
    }

    fn copies(&self, draw: &Draw) -> Result<(&Shared, &Shared)> {
        let missing = || Error::User("draw: names a copy that this runner does not have".to_owned());
        let baseline = self.sides.baseline.get(draw.baseline_copy).ok_or_else(missing)?;
        Ok((baseline, self.sides.candidate.get(draw.candidate_copy).ok_or_else(missing)?))
    }

    /// Draws a pair that warms caches up and is never counted; it takes no index.
    pub fn warm_up(&mut self, block: Vec<i64>) -> Result<Draw> {
        self.workload.check_block(&block)?;
        self.toss(WARM_UP, block)
    }

    fn toss(&self, index: u64, block: Vec<i64>) -> Result<Draw> {
        Ok(Draw {
            index,
            candidate_cases: kept(block.len(), self.terms.trim),
            block,
            candidate_first: draw_below(2)? == 1,
            baseline_copy: draw_below(self.sides.baseline.len() as u64)? as usize,
            candidate_copy: draw_below(self.sides.candidate.len() as u64)? as usize,
        })
    }

    fn await_calm(&self, wait: Duration, cancel: &AtomicBool) -> Result<()> {
        let started = Instant::now();
        loop {
            let (lost, core) = self.worst_loss(cancel)?;
            if lost <= MAX_LOST_SHARE {
                return Ok(());
            }
            if started.elapsed() >= wait {
                return Err(Error::Busy(format!(
                    "machine too loaded to time: others take {:.0}% of core {core} from us, the limit is {:.0}%, \
                     after waiting {} s; stop what runs there, or time again later",
                    lost * 100.0,
                    MAX_LOST_SHARE * 100.0,
                    wait.as_secs()
                )));
            }
        }
    }

    /// The leased core on which most is lost to others, and the share.
    fn worst_loss(&self, cancel: &AtomicBool) -> Result<(f64, usize)> {
        let mut worst = (0.0, self.cores.leased[0]);
        let before = Snapshot::read()?;
        for core in &self.cores.leased {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let lost = occupy(*core, LOOK)?;
            if lost > worst.0 {
                worst = (lost, *core);
            }
        }
        // A sibling shares the core's units: what runs there slows a trial as much as what runs here. Its load
        // is only known in ticks, so nothing short of a whole one is seen.
        let load = Snapshot::read()?.load_since(&before);
        for sibling in &self.cores.siblings {
            let busy = load.get(sibling).map_or(0.0, |load| load.busy);
            if busy > worst.0 {
                worst = (busy, *sibling);
            }
        }
        Ok(worst)
    }

    /// Runs a drawn pair. Call it again with the same draw when it was broken off: the coin stays.
    /// Errors: `User` for a draw that was neither drawn nor taken up here, `Machine`, `Interrupted`.
    pub fn run(&self, draw: &Draw, cancel: &AtomicBool) -> Result<Pair> {
        self.check_draw(draw)?;
        if draw.index != WARM_UP && self.drawn.get(&draw.index) != Some(&draw.block) {
            let next = next_index(&self.drawn);
            return Err(Error::User(format!(
                "draw: {} was not drawn here for this block (next is {next})",
                draw.index
            )));
        }
        let (baseline, candidate) = self.copies(draw)?;
        self.rouse()?;
        let (before, clocks) = (Snapshot::read()?, Clocks::read()?);
        let (whole, common) = (&draw.block[..], &draw.block[..draw.candidate_cases]);
        let (baseline, candidate) = if draw.candidate_first {
            let first = self.trial(candidate, baseline, common, cancel)?;
            (self.trial(baseline, candidate, whole, cancel)?, first)
        } else {
            let first = self.trial(baseline, candidate, whole, cancel)?;
            (first, self.trial(candidate, baseline, common, cancel)?)
        };
        let void = self.void(&before, &clocks)?;
        // Only now: a filter's time and memory are nobody's, and it must not run beside a trial.
        let baseline = self.sift(baseline, 0, whole.len(), cancel)?;
        let candidate = self.sift(candidate, 1, common.len(), cancel)?;
        let diverged = diverged(common, &baseline, &candidate);
        Ok(Pair { draw: draw.clone(), baseline, candidate, diverged, void })
    }

    /// A timed trial, after an empty one in the other side's sandbox.
    fn trial(&self, sandbox: &Shared, other: &Shared, block: &[i64], cancel: &AtomicBool) -> Result<Unsifted> {
        prime(other, cancel)?;
        let mut sandbox = hold(sandbox, cancel)?;
        self.workload.run_unsifted(&mut sandbox, block, self.terms.seed, self.terms.bounds, cancel)
    }

    fn sift(&self, run: Unsifted, side: usize, records: usize, cancel: &AtomicBool) -> Result<BlockRun> {
        let mut filter = self.sides.filters.get(side).map(|sandbox| hold(sandbox, cancel)).transpose()?;
        self.workload.sift(run, filter.as_deref_mut(), records, self.terms.seed, self.terms.bounds, cancel)
    }

    /// Wakes the leased cores and then keeps this thread, which reads and hashes, off them and their siblings.
    /// A core that idled for 50 ms ran the first trial of a pair 0.05 to 0.17 ms slower than the second: fair
    /// under the coin, but it widens the noise.
    fn rouse(&self) -> Result<()> {
        self.cores.leased.iter().try_for_each(|core| occupy(*core, ROUSE).map(drop))?;
        move_to(&self.cores.harness)
    }

    fn void(&self, before: &Snapshot, clocks: &Clocks) -> Result<Option<String>> {
        let stolen = Snapshot::read()?.stolen_since(before, &self.cores.leased)?;
        if let Some(gap) = Clocks::read()?.suspended_since(clocks) {
            return Ok(Some(format!("the machine was suspended for {:.3} s", gap.as_secs_f64())));
        }
        Ok((stolen > 0).then(|| format!("{} ms were stolen from the leased cores", stolen * 10)))
    }
}

fn check_trim(trim: f64, workload: &Workload) -> Result<()> {
    if !(0.0..1.0).contains(&trim) {
        return Err(Error::User(format!("trim: must be in [0, 1), a share of each block's cases; got {trim}")));
    }
    if trim > 0.0 && !workload.can_be_trimmed() {
        return Err(Error::User(
            "trim: needs blocks that can be cut: cases on standard input, and lines or length-framed records"
                .to_owned(),
        ));
    }
    Ok(())
}

/// How many of a block's cases the candidate gets: without the trimmed share, rounded half up, and at least 1.
fn kept(cases: usize, trim: f64) -> usize {
    cases.saturating_sub((cases as f64 * trim).round() as usize).max(1)
}

fn next_index(drawn: &BTreeMap<u64, Vec<i64>>) -> u64 {
    drawn.last_key_value().map_or(0, |(index, _)| index + 1)
}

fn check_filters(filters: &[Shared], workload: &Workload, cores: &Cores, cancel: &AtomicBool) -> Result<()> {
    let wanted = if workload.has_filter() { 2 } else { 0 };
    if filters.len() != wanted {
        return Err(Error::User(format!(
            "filters: {} sandboxes; this workload needs {wanted} (with a filter: for the baseline's output and for the \
             candidate's)",
            filters.len()
        )));
    }
    for sandbox in filters {
        let pinned = hold(sandbox, cancel)?.setup.cores.clone();
        if pinned.is_empty() || !pinned.iter().all(|core| cores.harness.contains(core)) {
            return Err(Error::User(format!(
                "filters: a sandbox is pinned to cores {pinned:?}, the lease leaves {:?} to the harness",
                cores.harness
            )));
        }
    }
    Ok(())
}

/// Spins on one core, and says which share of the time others had it: wall less this thread's own CPU time,
/// so exact to microseconds where the kernel's counters of load have ticks of 10 ms. It is the share that a
/// trial in its place would have lost, and the core is awake afterwards.
fn occupy(core: usize, length: Duration) -> Result<f64> {
    move_to(&[core])?;
    let own = || {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map(Duration::from)
            .map_err(|errno| Error::Machine(format!("this thread's clock could not be read: {errno}")))
    };
    let (started, before) = (Instant::now(), own()?);
    while started.elapsed() < length {
        std::hint::spin_loop();
    }
    let (used, passed) = (own()?.saturating_sub(before), started.elapsed());
    Ok(1.0 - (used.as_secs_f64() / passed.as_secs_f64()).min(1.0))
}

/// Runs an empty trial. Every timed one follows such a one of the other side, which warms the kernel's paths
/// (0.15 ms) and takes most of what the trial before left to be dismantled (0.1 ms; more where it littered).
fn prime(sandbox: &Shared, cancel: &AtomicBool) -> Result<()> {
    let argv = ["/nothing".to_owned()];
    let timeout = Duration::from_secs(10);
    let plan = Plan { argv: &argv, cwd: "/tree", stdin: &[], timeout, output_bytes: 1 << 16, files: false };
    trial::run(&mut *hold(sandbox, cancel)?, &plan, cancel, &mut |_| true).map(drop)
}

/// Pins this thread.
fn move_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).map_err(|errno| Error::Machine(format!("core {core}: {errno}")))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| Error::Machine(format!("the harness could not move to cores {cores:?}: {errno}")))
}

/// Cases whose records differ, of those that both sides got. Both sides hash under the same seed, so equal digests are equal records.
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
    fn a_core_that_others_want_is_seen_to_be_lost() {
        let core = crate::cores::Topology::read().unwrap().allowed.into_iter().next().unwrap();
        let stop = AtomicBool::new(false);
        let lost = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    move_to(&[core]).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let lost = scope.spawn(|| occupy(core, Duration::from_millis(400)).unwrap()).join().unwrap();
            stop.store(true, Ordering::Relaxed);
            lost
        });
        // Four threads share the core, so three quarters are lost; a busier machine only adds to that.
        assert!(lost > 0.4, "{lost}");
    }

    #[test]
    fn what_is_kept_of_a_block_is_rounded_and_never_nothing() {
        let kept_of = |cases| [0.0, 0.004, 0.005, 0.08, 0.5, 0.996, 0.999_999].map(|trim| kept(cases, trim));
        assert_eq!(kept_of(100), [100, 100, 99, 92, 50, 1, 1]);
        assert_eq!(kept_of(1), [1; 7]);
        assert_eq!(kept(12, 0.125), 10, "half a case is one");
    }

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
