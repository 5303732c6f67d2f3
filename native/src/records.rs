//! Splits a program's output into records and hashes each, as the bytes stream by.
//!
//! A digest is XXH3-128 under a 64-bit seed, kept as `[high, low]`. Memory stays flat: an exact record
//! longer than [`CARRY_BYTES`] runs through a streaming state; a canonicalised one must be held whole,
//! up to a limit.

use std::fmt;

use memchr::{memchr, memchr_iter};
use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::Hasher;

use crate::canonical::{Canonical, Forms};
use crate::lines::each_line;

/// Exact records up to here are copied together and hashed at once when they arrive in pieces; a
/// streaming state costs about as much to set up as hashing this.
const CARRY_BYTES: usize = 4096;
/// XXH3 reads a secret derived from the seed only above this length (its `XXH3_MIDSIZE_MAX`).
const SECRET_ABOVE_BYTES: usize = 240;

/// XXH3-128 of one record as `[high, low]`.
pub type Digest = [u64; 2];

/// How a program's output is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Up to and including each newline; bytes after the last newline are a record too.
    Line,
    /// The whole output, even when empty.
    Output,
    /// A `u32` little-endian length, then that many bytes, which are the record.
    Length,
}

/// Why an output is not a sequence of records. The candidate owns this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FramingError {
    /// More records than expected: stopped there, so endless output needs no endless memory.
    TooMany {
        /// The most that was allowed.
        limit: usize,
    },
    /// A frame announced, or a record to be canonicalised reached, more than the limit.
    TooLong {
        /// Index of the record.
        record: usize,
        /// Its length, as far as known.
        bytes: usize,
        /// The most that was allowed.
        limit: usize,
    },
    /// The output ended inside a frame's length or payload.
    Truncated {
        /// Index of the record.
        record: usize,
        /// What was cut: `length` or `payload`.
        part: &'static str,
        /// Bytes that this part should have had.
        expected: usize,
        /// Bytes that it had.
        received: usize,
    },
}

impl FramingError {
    /// The same error in an output that has `earlier` records before this part of it.
    pub(crate) fn after(mut self, earlier: usize) -> Self {
        match &mut self {
            Self::TooMany { .. } => {}
            Self::TooLong { record, .. } | Self::Truncated { record, .. } => *record += earlier,
        }
        self
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { limit } => write!(f, "more than the {limit} expected records"),
            Self::TooLong { record, bytes, limit } => {
                write!(f, "record {record} has at least {bytes} bytes; the limit is {limit}")
            }
            Self::Truncated { record, part, expected, received } => {
                write!(f, "record {record} is cut: its {part} has {received} of {expected} bytes")
            }
        }
    }
}

impl std::error::Error for FramingError {}

/// The records of one output.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Records {
    /// One digest a record, in the order of the output.
    pub digests: Vec<Digest>,
    /// How many records the canonical form could not read; they were hashed raw under another tag.
    pub invalid: usize,
}

/// XXH3-128 under one seed.
#[derive(Debug, Clone)]
pub(crate) struct Xxh3 {
    seed: u64,
    secret: Box<[u8]>,
}

impl Xxh3 {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, secret: XxHash3_128::with_seed(seed).into_secret() }
    }

    /// Deriving the secret anew costs more than hashing a few hundred bytes; reading the kept one
    /// costs the shortest records a little. Hence the two calls, which agree by definition of XXH3.
    #[inline]
    pub(crate) fn digest(&self, bytes: &[u8]) -> Digest {
        if bytes.len() <= SECRET_ABOVE_BYTES {
            return split(XxHash3_128::oneshot_with_seed(self.seed, bytes));
        }
        match XxHash3_128::oneshot_with_seed_and_secret(self.seed, &self.secret, bytes) {
            Ok(digest) => split(digest),
            Err(_) => split(XxHash3_128::oneshot_with_seed(self.seed, bytes)),
        }
    }

    pub(crate) fn stream(&self) -> Hasher {
        Hasher::with_seed(self.seed)
    }
}

#[inline]
pub(crate) fn split(digest: u128) -> Digest {
    [(digest >> 64) as u64, digest as u64]
}

/// Where a `Length` reader stands.
#[derive(Debug, Clone, Copy)]
enum Frame {
    Length { bytes: [u8; 4], have: usize },
    Payload { length: usize, left: usize },
}

const FRAME_START: Frame = Frame::Length { bytes: [0; 4], have: 0 };

/// Takes an output in pieces of any size; gives its records' digests.
pub struct RecordHasher {
    framing: Framing,
    frame: Frame,
    open: Open,
    records: Records,
    max_record_bytes: usize,
    max_records: usize,
}

/// The record that is being received, and what is needed to hash one.
struct Open {
    xxh3: Xxh3,
    canonical: Canonical,
    forms: Forms,
    carry: Vec<u8>,
    stream: Option<Box<Hasher>>,
}

impl RecordHasher {
    /// `max_record_bytes` bounds what is held in memory: canonicalised records, and what a frame may
    /// announce. Exact lines and exact whole outputs may be of any length.
    pub fn new(framing: Framing, canonical: Canonical, seed: u64, max_record_bytes: usize) -> Self {
        let open = Open { xxh3: Xxh3::new(seed), canonical, forms: Forms::default(), carry: Vec::new(), stream: None };
        let records = Records::default();
        Self { framing, frame: FRAME_START, open, records, max_record_bytes, max_records: usize::MAX }
    }

    /// Stops with [`FramingError::TooMany`] at the first record beyond `max_records`.
    #[must_use]
    pub fn with_max_records(mut self, max_records: usize) -> Self {
        self.max_records = max_records;
        self
    }

    /// The records complete so far; also after an error.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Takes the next bytes of the output.
    ///
    /// # Errors
    /// A [`FramingError`]; nothing more should be pushed after one.
    pub fn push(&mut self, data: &[u8]) -> Result<(), FramingError> {
        match self.framing {
            Framing::Line => self.push_lines(data),
            Framing::Output => self.extend(data),
            Framing::Length => self.push_frames(data),
        }
    }

    /// Ends the output.
    ///
    /// # Errors
    /// [`FramingError::Truncated`] inside a frame; the limits apply to the last record too.
    pub fn finish(mut self) -> Result<Records, FramingError> {
        match self.framing {
            Framing::Line if self.open.is_empty() => {}
            Framing::Line | Framing::Output => self.end()?,
            Framing::Length => self.finish_frames()?,
        }
        Ok(self.records)
    }

    fn push_lines(&mut self, mut data: &[u8]) -> Result<(), FramingError> {
        if !self.open.is_empty() {
            let end = memchr(b'\n', data).map_or(data.len(), |newline| newline + 1);
            self.extend(&data[..end])?;
            if data[..end].ends_with(b"\n") {
                self.end()?;
            }
            data = &data[end..];
        }
        let rest = if self.open.canonical.is_exact() { self.exact_lines(data)? } else { self.canonical_lines(data)? };
        if rest.is_empty() { Ok(()) } else { self.extend(rest) }
    }

    /// Takes the whole lines of `data`; returns what follows the last.
    fn exact_lines<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], FramingError> {
        let (digests, limit, mut over) = (&mut self.records.digests, self.max_records, false);
        let rest = each_line(data, |line| {
            if digests.len() < limit {
                digests.push(self.open.xxh3.digest(line));
            } else {
                over = true;
            }
        });
        if over { Err(FramingError::TooMany { limit }) } else { Ok(&data[rest..]) }
    }

    fn canonical_lines<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], FramingError> {
        let mut start = 0;
        for newline in memchr_iter(b'\n', data) {
            self.whole(&data[start..=newline])?;
            start = newline + 1;
        }
        Ok(&data[start..])
    }

    fn push_frames(&mut self, mut data: &[u8]) -> Result<(), FramingError> {
        loop {
            match &mut self.frame {
                Frame::Length { bytes, have } => {
                    let taken = data.len().min(4 - *have);
                    bytes[*have..*have + taken].copy_from_slice(&data[..taken]);
                    *have += taken;
                    data = &data[taken..];
                    if *have < 4 {
                        return Ok(());
                    }
                    let length = u32::from_le_bytes(*bytes) as usize;
                    self.check_length(length)?;
                    self.frame = Frame::Payload { length, left: length };
                }
                Frame::Payload { length, left } => {
                    let (payload, rest) = data.split_at(data.len().min(*left));
                    let first = *left == *length;
                    *left -= payload.len();
                    let last = *left == 0;
                    match (first, last) {
                        (true, true) => self.whole(payload)?,
                        _ => self.extend(payload)?,
                    }
                    if !last {
                        return Ok(());
                    }
                    if !first {
                        self.end()?;
                    }
                    self.frame = FRAME_START;
                    data = rest;
                }
            }
        }
    }

    fn finish_frames(&self) -> Result<(), FramingError> {
        let (part, expected, received) = match self.frame {
            Frame::Length { have: 0, .. } => return Ok(()),
            Frame::Length { have, .. } => ("length", 4, have),
            Frame::Payload { length, left } => ("payload", length, length - left),
        };
        Err(FramingError::Truncated { record: self.records.digests.len(), part, expected, received })
    }

    fn check_length(&self, bytes: usize) -> Result<(), FramingError> {
        if bytes <= self.max_record_bytes {
            return Ok(());
        }
        let record = self.records.digests.len();
        Err(FramingError::TooLong { record, bytes, limit: self.max_record_bytes })
    }

    /// One record that is here in one piece.
    #[inline]
    fn whole(&mut self, record: &[u8]) -> Result<(), FramingError> {
        if self.open.canonical.is_exact() {
            let digest = self.open.xxh3.digest(record);
            return self.keep(digest, true);
        }
        self.check_length(record.len())?;
        let valid = self.open.canonical.apply(record, &mut self.open.forms);
        let digest = self.open.xxh3.digest(&self.open.forms.hashed);
        self.keep(digest, valid)
    }

    /// The next piece of the open record.
    fn extend(&mut self, piece: &[u8]) -> Result<(), FramingError> {
        if !self.open.canonical.is_exact() {
            self.check_length(self.open.carry.len() + piece.len())?;
            self.open.carry.extend_from_slice(piece);
        } else {
            self.open.extend_exact(piece);
        }
        Ok(())
    }

    /// The open record is complete.
    fn end(&mut self) -> Result<(), FramingError> {
        if let Some(stream) = self.open.stream.take() {
            return self.keep(split(stream.finish_128()), true);
        }
        let mut carry = std::mem::take(&mut self.open.carry);
        let done = self.whole(&carry);
        carry.clear();
        self.open.carry = carry;
        done
    }

    #[inline]
    fn keep(&mut self, digest: Digest, valid: bool) -> Result<(), FramingError> {
        if self.records.digests.len() >= self.max_records {
            return Err(FramingError::TooMany { limit: self.max_records });
        }
        self.records.digests.push(digest);
        self.records.invalid += usize::from(!valid);
        Ok(())
    }
}

impl Open {
    #[inline]
    fn is_empty(&self) -> bool {
        self.carry.is_empty() && self.stream.is_none()
    }

    fn extend_exact(&mut self, piece: &[u8]) {
        if let Some(stream) = &mut self.stream {
            stream.write(piece);
        } else if self.carry.len() + piece.len() <= CARRY_BYTES {
            self.carry.extend_from_slice(piece);
        } else {
            let mut stream = Box::new(self.xxh3.stream());
            stream.write(&self.carry);
            stream.write(piece);
            self.carry.clear();
            self.stream = Some(stream);
        }
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
