//! Many blocks over a pool of slots, every block on every side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::records::Digest;
use crate::sandbox::Sandbox;
use crate::trial::Outcome;
use crate::workload::{BlockRun, Bounds, Workload};

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
        }
    }
}

fn panicked() -> Error {
    Error::Machine("a slot's thread panicked".to_owned())
}

/// Takes a sandbox for the length of a call. Errors: `Machine` after a panic in another holder.
pub fn hold(sandbox: &Shared) -> Result<MutexGuard<'_, Sandbox>> {
    sandbox.lock().map_err(|_| panicked())
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
        let mut sides = batch.sides.iter().map(|side| hold(&side[slot])).collect::<Result<Vec<_>>>()?;
        let mut filter = match batch.filters.get(slot) {
            Some(filter) => Some(hold(filter)?),
            None => None,
        };
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
