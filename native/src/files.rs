//! Output files as one record: an injective encoding of (path, contents), hashed as it is read.
//!
//! The hashed bytes are, for each file in the order of its path's bytes: `u32` LE length of the path,
//! the path, `u64` LE length of the contents, the contents. With a canonical form, its bytes and their
//! length stand for the contents.

use std::fmt;
use std::io::{self, Read};

use twox_hash::xxhash3_128::Hasher;

use crate::canonical::{Canonical, Forms};
use crate::records::{Records, Xxh3, split};

const READ_BYTES: usize = 64 << 10;

/// Why files are not a record.
#[derive(Debug)]
pub enum FilesError {
    /// Paths must be distinct and come in the order of their bytes.
    Order {
        /// The path that came too late.
        path: String,
    },
    /// A file to be canonicalised is longer than may be held.
    TooLong {
        /// Its path.
        path: String,
        /// Its length.
        bytes: u64,
        /// The most that was allowed.
        limit: usize,
    },
    /// A file ended before, or went on after, the length that was announced.
    Changed {
        /// Its path.
        path: String,
        /// The announced length.
        expected: u64,
    },
    /// A file could not be read.
    Read {
        /// Its path.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order { path } => write!(f, "paths must be distinct and sorted by their bytes; {path} is not"),
            Self::TooLong { path, bytes, limit } => write!(f, "{path} has {bytes} bytes; the limit is {limit}"),
            Self::Changed { path, expected } => write!(f, "{path} no longer has the {expected} bytes it had"),
            Self::Read { path, error } => write!(f, "cannot read {path}: {error}"),
        }
    }
}

impl std::error::Error for FilesError {}

/// Takes files one after the other; gives one digest for all of them.
pub struct FilesHasher {
    stream: Hasher,
    canonical: Canonical,
    forms: Forms,
    max_file_bytes: usize,
    previous: Option<Vec<u8>>,
    invalid: usize,
}

impl FilesHasher {
    /// `max_file_bytes` bounds a file that must be held to be canonicalised; exact ones stream.
    pub fn new(canonical: Canonical, seed: u64, max_file_bytes: usize) -> Self {
        let stream = Xxh3::new(seed).stream();
        Self { stream, canonical, forms: Forms::default(), max_file_bytes, previous: None, invalid: 0 }
    }

    /// Adds a file of `length` bytes, read from `contents`.
    ///
    /// # Errors
    /// See [`FilesError`]; nothing more should be added after one.
    pub fn add(&mut self, path: &[u8], length: u64, contents: impl Read) -> Result<(), FilesError> {
        let name = || String::from_utf8_lossy(path).into_owned();
        if self.previous.as_deref().is_some_and(|previous| previous >= path) {
            return Err(FilesError::Order { path: name() });
        }
        self.previous = Some(path.to_vec());
        // A path is bounded by the kernel (4096 bytes), far below u32.
        self.stream.write(&(path.len() as u32).to_le_bytes());
        self.stream.write(path);
        // One byte more than announced is enough to see that a file grew, and to stop.
        let read = if self.canonical.is_exact() {
            self.stream.write(&length.to_le_bytes());
            self.pass(contents.take(length.saturating_add(1)))
        } else if length > self.max_file_bytes as u64 {
            return Err(FilesError::TooLong { path: name(), bytes: length, limit: self.max_file_bytes });
        } else {
            self.canonicalise(contents.take(length.saturating_add(1)))
        };
        match read {
            Ok(read) if read == length => Ok(()),
            Ok(_) => Err(FilesError::Changed { path: name(), expected: length }),
            Err(error) => Err(FilesError::Read { path: name(), error }),
        }
    }

    /// One digest, also when there was no file.
    pub fn finish(self) -> Records {
        Records { digests: vec![split(self.stream.finish_128())], invalid: self.invalid }
    }

    fn pass(&mut self, mut contents: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; READ_BYTES];
        let mut total = 0;
        loop {
            match contents.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(read) => {
                    self.stream.write(&buffer[..read]);
                    total += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn canonicalise(&mut self, mut contents: impl Read) -> io::Result<u64> {
        let mut held = Vec::new();
        contents.read_to_end(&mut held)?;
        self.invalid += usize::from(!self.canonical.apply(&held, &mut self.forms));
        self.stream.write(&(self.forms.hashed.len() as u64).to_le_bytes());
        self.stream.write(&self.forms.hashed);
        Ok(held.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Digest;

    fn hash(canonical: &Canonical, files: &[(&str, &str)]) -> Result<Records, FilesError> {
        let mut hasher = FilesHasher::new(canonical.clone(), 1, 100);
        for (path, text) in files {
            hasher.add(path.as_bytes(), text.len() as u64, text.as_bytes())?;
        }
        Ok(hasher.finish())
    }

    fn exact(files: &[(&str, &str)]) -> Digest {
        hash(&Canonical::exact(), files).expect("sorted").digests[0]
    }

    #[test]
    fn moving_a_byte_across_any_border_changes_the_digest() {
        let all = [
            exact(&[]),
            exact(&[("", "")]),
            exact(&[("a", "")]),
            exact(&[("a", "b")]),
            exact(&[("ab", "")]),
            exact(&[("a", ""), ("b", "")]),
            exact(&[("a", "b"), ("c", "")]),
            exact(&[("a", ""), ("b", "c")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one), "number {i} collides");
        }
    }

    #[test]
    fn the_bytes_hashed_are_the_documented_ones() {
        let encoded = b"\x01\0\0\0a\x02\0\0\0\0\0\0\0xy\x02\0\0\0bc\0\0\0\0\0\0\0\0";
        assert_eq!(exact(&[("a", "xy"), ("bc", "")]), Xxh3::new(1).digest(encoded));
    }

    #[test]
    fn order_length_and_limit_are_checked() {
        let message = |result: Result<_, FilesError>| result.map(|_: Records| ()).expect_err("refused").to_string();
        let json = Canonical::new("json", None).expect("known form");
        assert!(message(hash(&json, &[("b", "1"), ("a", "1")])).contains("sorted by their bytes; a is not"));
        assert!(message(hash(&json, &[("a", "1"), ("a", "1")])).contains("distinct"));
        assert_eq!(message(hash(&json, &[("a", &"1".repeat(101))])), "a has 101 bytes; the limit is 100");
        for canonical in [Canonical::exact(), json] {
            for length in [1, 3] {
                let error = FilesHasher::new(canonical.clone(), 1, 100).add(b"a", length, &b"12"[..]);
                let error = error.expect_err("the file has 2 bytes").to_string();
                assert_eq!(error, format!("a no longer has the {length} bytes it had"));
            }
        }
    }

    #[test]
    fn a_canonical_form_applies_to_each_file() {
        let json = Canonical::new("json", None).expect("known form");
        let (a, b) = (hash(&json, &[("a", "[1, 2]")]), hash(&json, &[("a", "[1,2]")]));
        assert_eq!(a.expect("valid"), b.expect("valid"));
        assert_eq!(hash(&json, &[("a", "nope"), ("b", "1")]).expect("counted").invalid, 1);
    }
}
