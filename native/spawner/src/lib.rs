//! What the spawner and its parent share: the wire protocol, the board that a trial is reported on,
//! the meters of its control group, and the table of refused system calls.

pub mod board;
pub mod ids;
pub mod meter;
pub mod refused;
pub mod wire;
