//! A crate with one dependency from a registry that is warm and read-only.
fn main() {
    println!("tally {}", tally::tally(1..=100));
}
