//! What the spawner and its parent say to each other.

pub mod meter;
