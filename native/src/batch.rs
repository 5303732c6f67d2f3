//! Many blocks over a pool of slots, every block on every side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::records::Digest;
use crate::sandbox::Sandbox;
use crate::trial::Outcome;
use crate::workload::{BlockRun, Bounds, Workload};

/// Standard error that is kept over all runs of a batch that did not end well.
const MOST_STDERR_BYTES: usize = 8 << 20;

/// A sandbox that several calls may hold in turn.
pub type Shared = Arc<Mutex<Sandbox>>;

/// What is to be run.
pub struct Batch<'a> {
    /// `sides[s][k]` is side `s`'s sandbox on slot `k`.
    pub sides: &'a [Vec<Shared>],
    /// One sandbox a slot for the workload's filter; empty where it has none.
    pub filters: &'a [Shared],
    /// The workload.
    pub workload: &'a Workload,
    /// Cases of each block.
    pub blocks: &'a [Vec<i64>],
    /// Seed of the record hash.
    pub seed: u64,
    /// Limits of each run.
    pub bounds: Bounds,
    /// Stop handing out blocks once this many differ between sides or did not end well.
    pub stop_after: Option<usize>,
}

/// Everything that was seen; indices are `[side][block]`, digests `[side][case]` with blocks concatenated.
#[derive(Debug, Default)]
pub struct Results {
    /// Digests; zero where a record is missing.
    pub digests: Vec<Vec<Digest>>,
    /// One run a side and block, without its digests.
    pub runs: Vec<Vec<BlockRun>>,
    /// Which blocks were run on every side.
    pub done: Vec<bool>,
    /// Refused system calls over all runs.
    pub denied: BTreeMap<String, u64>,
    /// Bytes of standard error that are kept.
    stderr: usize,
}

impl Batch<'_> {
    /// Checks that sides, slots and blocks fit together.
    pub fn check(&self) -> Result<()> {
        let slots = self.sides.first().map_or(0, Vec::len);
        if slots == 0 || self.sides.iter().any(|side| side.len() != slots) {
            return Err(Error::User("sides: every side needs the same number of sandboxes, at least 1".to_owned()));
        }
        if self.workload.has_filter() && self.filters.len() != slots {
            return Err(Error::User(format!("filters: {} sandboxes for {slots} slots", self.filters.len())));
        }
        let all: Vec<_> = self.sides.iter().flatten().chain(self.filters).collect();
        for (index, sandbox) in all.iter().enumerate() {
            if all[..index].iter().any(|other| Arc::ptr_eq(other, sandbox)) {
                return Err(Error::User("sides: the same sandbox stands in two places".to_owned()));
            }
        }
        self.blocks.iter().try_for_each(|block| self.workload.check_block(block))
    }

    /// Runs all blocks; `progress` counts those that are through. Errors: the first of any slot.
    pub fn run(&self, cancel: &AtomicBool, progress: &AtomicUsize) -> Result<Results> {
        self.check()?;
        let next = AtomicUsize::new(0);
        let bad = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let results = Mutex::new(self.empty());
        let shift = Shift { batch: self, next: &next, bad: &bad, stop: &stop, results: &results, progress };
        let outcome = std::thread::scope(|scope| {
            let slots: Vec<_> = (0..self.sides[0].len())
                .map(|slot| {
                    let shift = &shift;
                    scope.spawn(move || shift.work(slot, cancel))
                })
                .collect();
            slots.into_iter().map(|slot| slot.join().unwrap_or_else(|_| Err(panicked()))).collect::<Vec<_>>()
        });
        outcome.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn empty(&self) -> Results {
        let cases = self.blocks.iter().map(Vec::len).sum();
        Results {
            digests: vec![vec![[0; 2]; cases]; self.sides.len()],
            runs: vec![vec![BlockRun::default(); self.blocks.len()]; self.sides.len()],
            done: vec![false; self.blocks.len()],
            denied: BTreeMap::new(),
            stderr: 0,
        }
    }
}

fn panicked() -> Error {
    Error::Machine("a slot's thread panicked".to_owned())
}

/// Takes a sandbox for the length of a call. After a panic in another holder it is mended before its next
/// run. Errors: `Interrupted`.
pub fn hold<'a>(sandbox: &'a Shared, cancel: &AtomicBool) -> Result<MutexGuard<'a, Sandbox>> {
    loop {
        match sandbox.try_lock() {
            Ok(held) => return Ok(held),
            Err(TryLockError::Poisoned(poisoned)) => {
                sandbox.clear_poison();
                let mut held = poisoned.into_inner();
                held.poisoned = true;
                return Ok(held);
            }
            Err(TryLockError::WouldBlock) if cancel.load(Ordering::Relaxed) => return Err(Error::Interrupted),
            Err(TryLockError::WouldBlock) => std::thread::sleep(HELD),
        }
    }
}

/// How long a held sandbox is left before it is asked for again.
const HELD: Duration = Duration::from_millis(2);

/// Takes several, in an order that is the same for everybody (where they lie in memory), so that two calls
/// that want the same ones never wait for each other. The guards come back in the order of `sandboxes`.
fn hold_all<'a>(sandboxes: &[&'a Shared], cancel: &AtomicBool) -> Result<Vec<MutexGuard<'a, Sandbox>>> {
    let mut order: Vec<usize> = (0..sandboxes.len()).collect();
    order.sort_by_key(|index| Arc::as_ptr(sandboxes[*index]));
    let mut held: Vec<Option<MutexGuard<'a, Sandbox>>> = sandboxes.iter().map(|_| None).collect();
    for index in order {
        held[index] = Some(hold(sandboxes[index], cancel)?);
    }
    Ok(held.into_iter().flatten().collect())
}

/// What the slots of one batch share.
struct Shift<'a> {
    batch: &'a Batch<'a>,
    next: &'a AtomicUsize,
    bad: &'a AtomicUsize,
    stop: &'a AtomicBool,
    results: &'a Mutex<Results>,
    progress: &'a AtomicUsize,
}

impl Shift<'_> {
    fn work(&self, slot: usize, cancel: &AtomicBool) -> Result<()> {
        let worked = self.work_through(slot, cancel);
        if worked.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        worked
    }

    fn work_through(&self, slot: usize, cancel: &AtomicBool) -> Result<()> {
        let batch = self.batch;
        let wanted: Vec<_> = batch.sides.iter().map(|side| &side[slot]).chain(batch.filters.get(slot)).collect();
        let mut sides = hold_all(&wanted, cancel)?;
        let mut filter = if sides.len() > batch.sides.len() { sides.pop() } else { None };
        let starts = offsets(batch.blocks);
        while !self.stop.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = batch.blocks.get(index) else { break };
            let mut runs: Vec<Option<BlockRun>> = vec![None; sides.len()];
            for side in order(sides.len())? {
                let sandbox = &mut sides[side];
                let run =
                    batch.workload.run(sandbox, filter.as_deref_mut(), block, batch.seed, batch.bounds, cancel)?;
                runs[side] = Some(run);
            }
            let runs: Vec<_> = runs.into_iter().flatten().collect();
            if differs(&runs)
                && batch.stop_after.is_some_and(|most| self.bad.fetch_add(1, Ordering::Relaxed) + 1 >= most)
            {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.keep(index, starts[index], runs);
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn keep(&self, index: usize, start: usize, runs: Vec<BlockRun>) {
        let mut results = self.results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (side, mut run) in runs.into_iter().enumerate() {
            let digests = std::mem::take(&mut run.digests);
            results.digests[side][start..start + digests.len()].copy_from_slice(&digests);
            for (name, count) in &run.trial.denied {
                *results.denied.entry(name.clone()).or_default() += count;
            }
            // Most runs have nothing to say that anybody reads; a hostile one could say it 20,000 times.
            let kept =
                if run.trial.outcome == Outcome::Ok { 0 } else { MOST_STDERR_BYTES.saturating_sub(results.stderr) };
            let cut = run.trial.stderr.len().saturating_sub(kept);
            run.trial.stderr.drain(..cut);
            results.stderr += run.trial.stderr.len();
            results.runs[side][index] = run;
        }
        results.done[index] = true;
    }
}

/// Whether a block is a difference between sides, or not a good end on any.
fn differs(runs: &[BlockRun]) -> bool {
    runs.iter().any(|run| run.trial.outcome != Outcome::Ok || run.digests != runs[0].digests)
}

fn offsets(blocks: &[Vec<i64>]) -> Vec<usize> {
    let mut start = 0;
    let next = |block: &Vec<i64>| {
        let here = start;
        start += block.len();
        here
    };
    blocks.iter().map(next).collect()
}

/// The sides in an order drawn from the system's entropy (Fisher–Yates), so that none is always first.
fn order(count: usize) -> Result<Vec<usize>> {
    let mut sides: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        sides.swap(last, draw_below(last as u64 + 1)? as usize);
    }
    Ok(sides)
}

/// A number in `[0, bound)` from the system's entropy, without bias (rejection).
pub fn draw_below(bound: u64) -> Result<u64> {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let drawn = getrandom::u64().map_err(|error| Error::Machine(format!("no entropy: {error}")))?;
        if drawn < limit {
            return Ok(drawn % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_sides_comes_up() {
        let mut seen = BTreeMap::new();
        for _ in 0..600 {
            *seen.entry(order(3).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        // 600 draws over 6 orders: each count is binomial(600, 1/6), sd 9; 5 sd either way.
        assert!(seen.values().all(|count| (55..=145).contains(count)), "{seen:?}");
    }

    #[test]
    fn blocks_lie_one_after_another() {
        assert_eq!(offsets(&[vec![1, 2], vec![], vec![3]]), [0, 2, 2]);
    }
}
