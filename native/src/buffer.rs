//! Records of an output that is in memory at once: the same hasher, on several threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memchr::memchr;

use crate::canonical::Canonical;
use crate::error::Error;
use crate::records::{Framing, FramingError, RecordHasher, Records};

/// The most memory that one canonicalised record may take (fixed).
pub const MAX_CANONICAL_BYTES: usize = 64 << 20;
/// Bytes between two looks at the cancel flag: some ten milliseconds for the slowest pattern to ignore.
const STEP_BYTES: usize = 128 << 10;
/// Less than this is hashed sooner than a thread starts.
const MIN_PART_BYTES: usize = 64 << 10;

/// What to do with the bytes of an output.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// How it is cut.
    pub framing: Framing,
    /// What of a record counts.
    pub canonical: Canonical,
    /// The seed of the digests.
    pub seed: u64,
}

impl Recipe {
    /// A hasher for an output in memory, where an exact record costs nothing however long it is.
    fn hasher(&self) -> RecordHasher {
        let cap = if self.canonical.is_exact() { usize::MAX } else { MAX_CANONICAL_BYTES };
        RecordHasher::new(self.framing, self.canonical.clone(), self.seed, cap)
    }
}

/// The records of `data`, hashed on up to `threads` threads; the result does not depend on their number.
///
/// # Errors
/// `User` when `data` is not framed so; `Interrupted` when `cancel` was set; `Machine` when a thread
/// cannot be started.
pub fn hash_records(data: &[u8], recipe: &Recipe, threads: usize, cancel: &AtomicBool) -> Result<Records, Error> {
    let parts = cut(data, recipe.framing, threads);
    let hashed = thread::scope(|scope| {
        let hash = |part| move || hash_part(part, recipe, cancel);
        let others: Result<Vec<_>, _> =
            parts[1..].iter().map(|&part| thread::Builder::new().spawn_scoped(scope, hash(part))).collect();
        let others = others.map_err(|e| Error::Machine(format!("cannot start {} threads: {e}", parts.len())))?;
        let mut hashed = vec![hash_part(parts[0], recipe, cancel)?];
        for other in others {
            hashed.push(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(hashed)
    })?;
    join(hashed).map_err(|e| Error::User(format!("not a sequence of records: {e}")))
}

type Hashed = Result<Records, FramingError>;

fn hash_part(part: &[u8], recipe: &Recipe, cancel: &AtomicBool) -> Result<Hashed, Error> {
    let mut hasher = recipe.hasher();
    for step in part.chunks(STEP_BYTES) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        if let Err(error) = hasher.push(step) {
            return Ok(Err(error));
        }
    }
    Ok(hasher.finish())
}

fn join(parts: Vec<Hashed>) -> Hashed {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_else(|| Ok(Records::default()))?;
    for part in parts {
        let mut part = part.map_err(|error| error.after(all.digests.len()))?;
        all.digests.append(&mut part.digests);
        all.invalid += part.invalid;
    }
    Ok(all)
}

/// At least one and at most `threads` parts, none of them cutting a record in two.
fn cut(data: &[u8], framing: Framing, threads: usize) -> Vec<&[u8]> {
    let count = threads.min(data.len() / MIN_PART_BYTES);
    let mut parts = Vec::with_capacity(count.max(1));
    let mut rest = data;
    for left in (2..=count).rev() {
        let (part, after) = rest.split_at(boundary(rest, framing, rest.len() / left));
        if !part.is_empty() {
            parts.push(part);
        }
        rest = after;
    }
    // No part but the only one may be empty: an empty output is a record where one is all of it.
    if parts.is_empty() || !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// The first end of a record at or after `near`; the end of `data` when there is none.
fn boundary(data: &[u8], framing: Framing, near: usize) -> usize {
    match framing {
        Framing::Output => data.len(),
        Framing::Line => memchr(b'\n', &data[near..]).map_or(data.len(), |newline| near + newline + 1),
        Framing::Length => {
            let mut end = 0;
            while end < near {
                let Some(length) = data.get(end..).and_then(|rest| rest.first_chunk()) else { return data.len() };
                end = end.saturating_add(4).saturating_add(u32::from_le_bytes(*length) as usize);
            }
            end.min(data.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static GO: AtomicBool = AtomicBool::new(false);

    fn recipe(framing: Framing) -> Recipe {
        Recipe { framing, canonical: Canonical::exact(), seed: 7 }
    }

    fn frames(count: usize) -> Vec<u8> {
        (0..count).flat_map(|i| [&(i as u32 % 50).to_le_bytes()[..], &vec![b'\n'; i % 50]].concat()).collect()
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let lines: Vec<u8> = (0..50_000u32).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        let unterminated = &lines[..lines.len() - 3];
        let frames = frames(20_000);
        let cases: [(Framing, &[u8]); 4] = [
            (Framing::Line, &lines),
            (Framing::Line, unterminated),
            (Framing::Output, &lines),
            (Framing::Length, &frames),
        ];
        for (framing, data) in cases {
            let alone = hash_records(data, &recipe(framing), 1, &GO).expect("well-framed");
            for threads in [2, 3, 5] {
                assert_eq!(hash_records(data, &recipe(framing), threads, &GO).as_ref(), Ok(&alone));
            }
        }
        assert_eq!(cut(&lines, Framing::Line, 4).len(), 4, "the data is too small to have been split");
        assert_eq!(cut(&frames, Framing::Length, 4).len(), 4, "the data is too small to have been split");
    }

    #[test]
    fn an_error_names_the_same_record_on_any_number_of_threads() {
        let mut data = frames(20_000);
        data.pop();
        let message =
            |threads| hash_records(&data, &recipe(Framing::Length), threads, &GO).expect_err("cut").to_string();
        assert!(message(1).contains("record 19999 is cut: its payload has 48 of 49 bytes"), "{}", message(1));
        assert_eq!(message(1), message(4));
    }

    #[test]
    fn a_set_flag_interrupts() {
        let set = AtomicBool::new(true);
        assert_eq!(hash_records(b"a\n", &recipe(Framing::Line), 1, &set), Err(Error::Interrupted));
    }
}
