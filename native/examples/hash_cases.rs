//! The workload of nightfleet's own arena: case numbers on standard input, one record a case on standard output.
//!
//! A case number decides a buffer of output such as programs write: its framing, its canonical form, how long its
//! records are, and where the pipe cuts it. The buffer goes through [`RecordHasher`] and the case's record says how many
//! records were found, how many were not valid, and what their digests come to, in order. The buffer is copied out of one
//! pool of noise, so that a run spends its time on splitting and hashing and not on making what is split and hashed.

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;

use nightfleet_native::canonical::Canonical;
use nightfleet_native::records::{Digest, Framing, FramingError, RecordHasher, Records};

const POOL_BYTES: usize = 1 << 20;
const MAX_RECORD_BYTES: usize = 1 << 20;
/// What a pipe holds: no read returns more.
const PIPE_BYTES: u64 = 1 << 16;
/// Removed from records before hashing, as an arena would do with a time of day.
const IGNORED: &str = r"t=[0-9]+";

fn main() -> ExitCode {
    match answer(io::stdin().lock(), BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hash_cases: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(cases: impl BufRead, mut records: impl Write) -> io::Result<()> {
    let pool = noise();
    let mut output = Vec::new();
    for line in cases.lines() {
        let line = line?;
        let case: u64 = line.trim().parse().map_err(|_| io::Error::other(format!("not a case number: {line:?}")))?;
        let mut random = Random(case);
        let shape = &SHAPES[random.below(SHAPES.len() as u64) as usize];
        output.clear();
        (shape.write)(&pool, &mut random, &mut output);
        let (error, found) = hash(shape, &output, case, &mut random);
        let [high, low] = fold(&found.digests);
        let count = found.digests.len();
        writeln!(records, "{} {count} {} {error} {high:016x}{low:016x}", shape.name, found.invalid)?;
    }
    records.flush()
}

/// Gives the records of an output that arrives in pieces, and what is wrong with it, if anything.
fn hash(shape: &Shape, output: &[u8], seed: u64, random: &mut Random) -> (&'static str, Records) {
    let canonical = Canonical::new(shape.canonical, shape.ignore).expect("the shapes below are valid");
    let mut hasher = RecordHasher::new(shape.framing, canonical, seed, MAX_RECORD_BYTES);
    let mut rest = output;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(PIPE_BYTES) as usize));
        rest = later;
        if let Err(error) = hasher.push(piece) {
            return (name(&error), hasher.records().clone());
        }
    }
    let complete = hasher.records().clone();
    match hasher.finish() {
        Ok(records) => ("whole", records),
        Err(error) => (name(&error), complete),
    }
}

fn name(error: &FramingError) -> &'static str {
    match error {
        FramingError::TooMany { .. } => "too-many",
        FramingError::TooLong { .. } => "too-long",
        FramingError::Truncated { .. } => "truncated",
    }
}

/// One value that changes with every digest and with their order; not a hash that anyone should rely on.
fn fold(digests: &[Digest]) -> Digest {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    digests
        .iter()
        .fold([0, 0], |sums, digest| [0, 1].map(|half| (sums[half].rotate_left(5) ^ digest[half]).wrapping_mul(ODD)))
}

struct Shape {
    name: &'static str,
    framing: Framing,
    canonical: &'static str,
    ignore: Option<&'static str>,
    write: fn(&[u8], &mut Random, &mut Vec<u8>),
}

const fn exact(name: &'static str, framing: Framing, write: fn(&[u8], &mut Random, &mut Vec<u8>)) -> Shape {
    Shape { name, framing, canonical: "exact", ignore: None, write }
}

/// The sizes are such that no shape takes much more of a run than another.
const SHAPES: [Shape; 7] = [
    exact("short-lines", Framing::Line, |pool, random, out| lines(pool, random, out, 8000, 64)),
    exact("lines", Framing::Line, |pool, random, out| lines(pool, random, out, 4000, 2000)),
    exact("long-lines", Framing::Line, |pool, random, out| lines(pool, random, out, 40, 200_000)),
    exact("frames", Framing::Length, frames),
    exact("output", Framing::Output, |pool, random, out| lines(pool, random, out, 4000, 2000)),
    Shape { name: "json", framing: Framing::Line, canonical: "json", ignore: None, write: json_lines },
    Shape {
        name: "ignore",
        framing: Framing::Line,
        canonical: "exact",
        ignore: Some(IGNORED),
        write: |pool, random, out| lines(pool, random, out, 2000, 400),
    },
];

/// Lines of up to `longest` bytes, now and then with a time in them; the last may lack its newline.
fn lines(pool: &[u8], random: &mut Random, out: &mut Vec<u8>, most: u64, longest: u64) {
    for _ in 0..random.below(most) {
        if random.below(8) == 0 {
            out.extend_from_slice(b"t=17 ");
        }
        out.extend_from_slice(slice(pool, random, longest));
        out.push(b'\n');
    }
    if random.below(4) == 0 {
        out.pop();
    }
}

/// Frames of up to 6 KB, so that some are carried and some are streamed; the last may be cut.
fn frames(pool: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    for _ in 0..random.below(2000) {
        let payload = slice(pool, random, 6000);
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(payload);
    }
    if random.below(16) == 0 {
        out.pop();
    }
}

/// One object a line, keys out of order, numbers of both kinds, a nested array; one line in fifty is no JSON.
fn json_lines(pool: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    for _ in 0..random.below(600) {
        let (id, share, signed) = (random.below(1 << 40), random.below(1 << 20), random.below(200) as i64 - 100);
        let name = String::from_utf8_lossy(slice(pool, random, 60));
        let end = if random.below(50) == 0 { "" } else { "}" };
        let written = writeln!(
            out,
            r#"{{"name": "{name}", "id": {id}, "gain": {signed}.{share}e-3, "ok": true, "at": {{"x": [{id}, {signed}, null], "a": "größer"}}{end}"#
        );
        written.expect("a vector takes every byte");
    }
}

fn slice<'a>(pool: &'a [u8], random: &mut Random, longest: u64) -> &'a [u8] {
    let length = random.below(longest + 1) as usize;
    let start = random.below((pool.len() - length) as u64) as usize;
    &pool[start..start + length]
}

/// Printable, without newlines, quotes and backslashes, so that it can stand in a line and in a JSON string.
fn noise() -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
    let mut random = Random(0);
    (0..POOL_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).map(|byte| LETTERS[usize::from(byte & 63)]).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): every case number gives a sequence of its own.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Any of 0, 1, … `limit` − 1, evenly enough (Lemire 2019, without the rejection); 0 for a limit of 0.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}
