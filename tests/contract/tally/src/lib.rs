//! The dependency: small, but with a build script, as half of the world's crates have one.
include!(concat!(env!("OUT_DIR"), "/start.rs"));

/// The sum of `numbers`.
pub fn tally(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(START, |sum, number| sum + number)
}
