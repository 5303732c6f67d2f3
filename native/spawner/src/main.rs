//! The spawner: one small single-threaded process per sandbox.
fn main() {}
