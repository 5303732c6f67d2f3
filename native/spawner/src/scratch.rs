//! The file system that each trial finds empty.

use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

/// Where a program may write: fresh for each trial. They are binds of one file system, because making and
/// unmaking four would cost more than all else of a trial.
pub const PLACES: [&str; 4] = ["/tmp", "/home/nightfleet", "/dev/shm", "/out"];
/// Where that file system itself is mounted.
const ROOT: &str = "/.scratch";

/// A fresh file system for what a program may write, limited in size so that no trial fills the machine.
pub fn mount_fresh(bytes: u64) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("size={bytes},nr_inodes=262144,mode=0755");
    mount(Some("tmpfs"), ROOT, Some("tmpfs"), flags, Some(options.as_str()))?;
    for (index, target) in PLACES.into_iter().enumerate() {
        let part = format!("{ROOT}/{index}");
        nix::unistd::mkdir(part.as_str(), Mode::S_IRWXU | Mode::from_bits_truncate(0o055))?;
        mount(Some(part.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    Ok(())
}
