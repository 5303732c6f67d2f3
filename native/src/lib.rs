//! The plain-Rust core of nightfleet: sandboxed trials, record hashing, paired timing.
//!
//! Only [`py`] knows Python; everything else is ordinary Rust with its own tests.

pub mod batch;
pub mod buffer;
pub mod canonical;
pub mod cgroup;
pub mod cores;
pub mod digests;
pub mod error;
pub mod files;
pub mod lease;
mod lines;
pub mod load;
pub mod owner;
pub mod pair;
pub mod probe;
pub mod profile;
pub mod records;
pub mod replace;
pub mod sandbox;
pub mod tree;
pub mod trial;
pub mod workload;

#[cfg(feature = "python")]
mod py;

/// The spawner's executable, built by `build.rs` and carried inside this library, so that a wheel
/// is one file and no path has to be found at run time.
pub static SPAWNER_ELF: &[u8] = include_bytes!(env!("NIGHTFLEET_SPAWNER"));
