//! Digest arrays on disk: one digest a case, in a plain `.npy` that anyone with NumPy can read.
//!
//! The file is `.npy` format 1.0 with the structured dtype `[('case', '<i8'), ('high', '<u8'),
//! ('low', '<u8')]`: [`HEADER_BYTES`] of header, then 24 bytes a row, rows sorted by case, cases
//! distinct and in [0, 2^31). The header follows from the number of rows and nothing else is accepted.
//!
//! The **root digest** is SHA-256, in lowercase hex, over: the 21 bytes `nightfleet digests 1\n`; the
//! length of the metadata as `u64` LE; the metadata; the rows as they lie in the file (the header is
//! not part of it, since it says nothing that the rows do not).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::records::Digest;
use crate::replace::Replacement;

/// Length of the header; what follows is rows.
pub const HEADER_BYTES: usize = 192;
/// Cases are below this (fixed: a case must fit the smallest integer that any program may use for it).
pub const CASE_END: i64 = 1 << 31;

const ROOT_PREFIX: &[u8] = b"nightfleet digests 1\n";
const ROW_BYTES: usize = 24;
const CHUNK_ROWS: usize = 4096;
const HEADER_START: &[u8] =
    b"{'descr': [('case', '<i8'), ('high', '<u8'), ('low', '<u8')], 'fortran_order': False, 'shape': (";

/// A case and the digest of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The case, in [0, 2^31).
    pub case: i64,
    /// The digest, `[high, low]`.
    pub digest: Digest,
}

impl Row {
    fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..8].copy_from_slice(&self.case.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.digest[0].to_le_bytes());
        bytes[16..].copy_from_slice(&self.digest[1].to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self { case: word(0) as i64, digest: [word(8), word(16)] }
    }
}

/// How two digest files differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Cases that both files have, with different digests.
    pub differing: u64,
    /// Cases that only the first file has.
    pub only_a: u64,
    /// Cases that only the second file has.
    pub only_b: u64,
    /// The first differing cases, ascending, as many as were asked for.
    pub cases: Vec<i64>,
}

/// Writes `digests[i]` for `cases[i]`, in any order, as the file `path`, replacing it at once or not at
/// all. Returns the root digest.
///
/// # Errors
/// `User` for lengths that differ, cases that repeat or are out of range, and paths that cannot be
/// written; `Machine` when the disk fails or fills; `Interrupted`. The old file, if any, then stays.
pub fn write(
    path: &Path,
    cases: &[i64],
    digests: &[Digest],
    metadata: &[u8],
    cancel: &AtomicBool,
) -> Result<String, Error> {
    if cases.len() != digests.len() {
        return Err(Error::User(format!("there are {} cases but {} digests", cases.len(), digests.len())));
    }
    let order = sorted(cases)?;
    let mut root = Root::new(metadata);
    let mut file = Replacement::of(path)?;
    file.write(&header(cases.len() as u64))?;
    let mut buffer = Vec::with_capacity(CHUNK_ROWS * ROW_BYTES);
    for chunk in order.chunks(CHUNK_ROWS) {
        check(cancel)?;
        buffer.clear();
        for &key in chunk {
            let index = (key & u64::from(u32::MAX)) as usize;
            buffer.extend_from_slice(&Row { case: cases[index], digest: digests[index] }.to_bytes());
        }
        root.update(&buffer);
        file.write(&buffer)?;
    }
    file.commit()?;
    Ok(root.finish())
}

/// The root digest of the file with this metadata; every row's place is checked on the way.
///
/// # Errors
/// `User` when the file is not a digest file, and says what was expected and found; `Interrupted`.
pub fn root(path: &Path, metadata: &[u8], cancel: &AtomicBool) -> Result<String, Error> {
    let mut reader = Reader::open(path)?;
    let mut root = Root::new(metadata);
    while let Some(chunk) = reader.chunk(cancel)? {
        root.update(chunk);
    }
    Ok(root.finish())
}

/// Holds the file to a root digest that was recorded before.
///
/// # Errors
/// `User` when it is another file or other metadata; otherwise as [`root`].
pub fn verify(path: &Path, metadata: &[u8], expected: &str, cancel: &AtomicBool) -> Result<(), Error> {
    let found = root(path, metadata, cancel)?;
    if found == expected {
        return Ok(());
    }
    let path = path.display();
    Err(Error::User(format!("{path} with its metadata has the root digest {found}; expected {expected}")))
}

/// All cases, ascending, and their digests.
///
/// # Errors
/// As [`root`].
pub fn read(path: &Path, cancel: &AtomicBool) -> Result<(Vec<i64>, Vec<Digest>), Error> {
    let mut reader = Reader::open(path)?;
    let (mut cases, mut digests) = (Vec::new(), Vec::new());
    let count = reader.count as usize;
    // A sparse file can announce more than any memory; failing to get it must not abort the process.
    cases
        .try_reserve_exact(count)
        .and_then(|()| digests.try_reserve_exact(count))
        .map_err(|e| Error::Machine(format!("no memory for the {count} cases of {}: {e}", path.display())))?;
    while let Some(chunk) = reader.chunk(cancel)? {
        for row in rows(chunk) {
            cases.push(row.case);
            digests.push(row.digest);
        }
    }
    Ok((cases, digests))
}

/// Compares two files case by case, listing at most `limit` differing cases; the counts are complete.
///
/// # Errors
/// As [`root`], for either file.
pub fn diff(a: &Path, b: &Path, limit: usize, cancel: &AtomicBool) -> Result<Diff, Error> {
    let (mut a, mut b) = (Cursor::open(a)?, Cursor::open(b)?);
    let mut diff = Diff::default();
    loop {
        match (a.row(cancel)?, b.row(cancel)?) {
            (None, None) => return Ok(diff),
            (Some(left), Some(right)) if left.case == right.case => {
                if left.digest != right.digest {
                    diff.differing += 1;
                    if diff.cases.len() < limit {
                        diff.cases.push(left.case);
                    }
                }
                a.next += 1;
                b.next += 1;
            }
            (Some(left), right) if right.is_none_or(|right| left.case < right.case) => {
                diff.only_a += 1;
                a.next += 1;
            }
            _ => {
                diff.only_b += 1;
                b.next += 1;
            }
        }
    }
}

fn check(cancel: &AtomicBool) -> Result<(), Error> {
    if cancel.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

fn rows(chunk: &[u8]) -> impl Iterator<Item = Row> + '_ {
    chunk.as_chunks::<ROW_BYTES>().0.iter().map(Row::from_bytes)
}

/// `case << 32 | index`, ascending: one word a case sorts faster and smaller than pairs do.
fn sorted(cases: &[i64]) -> Result<Vec<u64>, Error> {
    if cases.len() > CASE_END as usize {
        return Err(Error::User(format!("there are {} cases; at most 2**31 are distinct", cases.len())));
    }
    let mut keys = Vec::with_capacity(cases.len());
    for (index, &case) in cases.iter().enumerate() {
        if !(0..CASE_END).contains(&case) {
            return Err(Error::User(format!("cases must be in [0, 2**31); cases[{index}] is {case}")));
        }
        keys.push((case as u64) << 32 | index as u64);
    }
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] >> 32 == pair[1] >> 32) {
        Some(pair) => Err(Error::User(format!("cases must be distinct; {} appears twice", pair[0] >> 32))),
        None => Ok(keys),
    }
}

/// The bytes that `numpy.save` writes before `count` rows (format 1.0, padded to a multiple of 64 with
/// room for a longer count).
fn header(count: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [b' '; HEADER_BYTES];
    bytes[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    bytes[8..10].copy_from_slice(&(HEADER_BYTES as u16 - 10).to_le_bytes());
    let text = [HEADER_START, count.to_string().as_bytes(), b",), }"].concat();
    bytes[10..10 + text.len()].copy_from_slice(&text);
    bytes[HEADER_BYTES - 1] = b'\n';
    bytes
}

struct Root(Sha256);

impl Root {
    fn new(metadata: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(ROOT_PREFIX);
        hash.update((metadata.len() as u64).to_le_bytes());
        hash.update(metadata);
        Self(hash)
    }

    fn update(&mut self, rows: &[u8]) {
        self.0.update(rows);
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads a digest file chunk by chunk and refuses anything else.
struct Reader {
    path: PathBuf,
    file: File,
    count: u64,
    done: u64,
    last: i64,
    buffer: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::io("read", path, &error);
        // Without O_NONBLOCK, opening a FIFO would wait for a writer.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mut reader = Self { path: path.into(), file, count: 0, done: 0, last: -1, buffer: Vec::new() };
        if !metadata.is_file() {
            return Err(reader.refuse("expected a regular file, found something else"));
        }
        reader.count = reader.read_header(metadata.len())?;
        Ok(reader)
    }

    fn refuse(&self, reason: &str) -> Error {
        Error::User(format!("{} is not a digest file: {reason}", self.path.display()))
    }

    fn read_header(&mut self, length: u64) -> Result<u64, Error> {
        if length < HEADER_BYTES as u64 {
            return Err(self.refuse(&format!("expected at least {HEADER_BYTES} bytes, found {length}")));
        }
        let mut found = [0; HEADER_BYTES];
        self.file.read_exact(&mut found).map_err(|error| Error::io("read", &self.path, &error))?;
        let count = count_in(&found).filter(|&count| header(count) == found).ok_or_else(|| {
            self.refuse(&format!("expected the header {}N,), }}, found {}", shown(HEADER_START), shown_header(&found)))
        })?;
        let expected = HEADER_BYTES as u64 + count * ROW_BYTES as u64;
        if length != expected {
            return Err(self.refuse(&format!("expected {expected} bytes for its {count} cases, found {length}")));
        }
        Ok(count)
    }

    /// The next rows as they lie in the file, in order; `None` after the last.
    fn chunk(&mut self, cancel: &AtomicBool) -> Result<Option<&[u8]>, Error> {
        check(cancel)?;
        let count = (self.count - self.done).min(CHUNK_ROWS as u64) as usize;
        if count == 0 {
            return Ok(None);
        }
        self.buffer.resize(count * ROW_BYTES, 0);
        self.file.read_exact(&mut self.buffer).map_err(|error| Error::io("read", &self.path, &error))?;
        let mut last = self.last;
        for (index, row) in rows(&self.buffer).enumerate() {
            if row.case <= last || row.case >= CASE_END {
                let (row_index, case) = (self.done + index as u64, row.case);
                let expected = format!("a case above {last} and below 2**31");
                return Err(self.refuse(&format!("expected {expected} in row {row_index}, found {case}")));
            }
            last = row.case;
        }
        self.last = last;
        self.done += count as u64;
        Ok(Some(&self.buffer))
    }
}

/// A header as a person can read it, whatever is in it.
fn shown_header(header: &[u8; HEADER_BYTES]) -> String {
    if header.starts_with(b"\x93NUMPY") { shown(&header[10..]) } else { "a file that is not .npy".into() }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim_end().replace(char::is_control, "?")
}

fn count_in(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let digits = header[10..].strip_prefix(HEADER_START)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let count = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (count <= CASE_END as u64).then_some(count)
}

/// One row at a time.
struct Cursor {
    reader: Reader,
    rows: Vec<Row>,
    next: usize,
}

impl Cursor {
    fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { reader: Reader::open(path)?, rows: Vec::new(), next: 0 })
    }

    #[inline]
    fn row(&mut self, cancel: &AtomicBool) -> Result<Option<Row>, Error> {
        if self.next == self.rows.len() {
            self.next = 0;
            self.rows.clear();
            self.rows.extend(self.reader.chunk(cancel)?.into_iter().flat_map(rows));
        }
        Ok(self.rows.get(self.next).copied())
    }
}

#[cfg(test)]
#[path = "digests_tests.rs"]
mod tests;
