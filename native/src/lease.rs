//! The machine's one timing lease: who times now, and nobody else.
//!
//! A `flock` on a file in a private runtime directory. The kernel frees it when the holder dies,
//! however it dies; the text in the file only tells others who holds it. It excludes every process
//! of the same user. Two users have two directories, hence two leases: a directory that both could
//! write to would let either hold the other up.
//!
//! The lock belongs to the open file, so that a child *forked* from the holder without `exec` keeps
//! it for as long as it lives; an executed child closes it.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::owner::Owner;

mod directory;

pub use directory::runtime_dir;

const FILE: &str = "timing.lease";
const POLL: Duration = Duration::from_millis(50);
const LONGEST_PURPOSE: usize = 200;

/// The right to time on this machine; released on drop, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Lease {
    file: File,
    path: PathBuf,
    process: u32,
}

/// What the holder of the lease says of itself, for display only: its user could write anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process; none in the moment between its taking the lock and its writing the file.
    pub owner: Option<Owner>,
    /// What it is timing, without control characters.
    pub purpose: String,
}

impl Lease {
    /// Takes the lease in [`runtime_dir`], waiting for at most `wait` (none: for as long as it takes).
    ///
    /// While someone else holds it, `on_wait` hears who, and for how long we have waited, every 50 ms;
    /// `cancel` ends the wait with [`Error::Interrupted`].
    pub fn acquire(
        purpose: &str,
        wait: Option<Duration>,
        on_wait: impl FnMut(&Holder, Duration),
        cancel: &AtomicBool,
    ) -> Result<Lease> {
        Lease::acquire_in(&runtime_dir()?, purpose, wait, on_wait, cancel)
    }

    /// The same in a directory of the caller's choice, which must be as private.
    pub fn acquire_in(
        directory: &Path,
        purpose: &str,
        wait: Option<Duration>,
        mut on_wait: impl FnMut(&Holder, Duration),
        cancel: &AtomicBool,
    ) -> Result<Lease> {
        let began = Instant::now();
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let holder = match Lease::attempt(directory, purpose)? {
                Attempt::Taken(lease) => return Ok(lease),
                Attempt::Moved => continue,
                Attempt::Held(holder) => holder,
            };
            let waited = began.elapsed();
            if wait.is_some_and(|limit| waited >= limit) {
                return Err(Error::Machine(format!(
                    "the machine's timing lease is held by {holder}; waited {:.1} s; wait longer or stop that process",
                    waited.as_secs_f64()
                )));
            }
            on_wait(&holder, waited);
            std::thread::sleep(wait.map_or(POLL, |limit| POLL.min(limit - waited)));
        }
    }

    /// False if the file was removed or replaced under us (a cleaner of temporary files, the end of
    /// a login session): another process may then hold a lease on the new file.
    pub fn is_current(&self) -> bool {
        let identity = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let ours = self.file.metadata().map(identity).ok();
        ours.is_some() && ours == self.path.symlink_metadata().map(identity).ok()
    }

    /// The locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn attempt(directory: &Path, purpose: &str) -> Result<Attempt> {
        Lease::take(open(directory)?, directory, purpose)
    }

    fn take(mut file: File, directory: &Path, purpose: &str) -> Result<Attempt> {
        if !lock(&file, directory)? {
            return Ok(Attempt::Held(Holder::read(&mut file)));
        }
        let mut lease = Lease { file, path: directory.join(FILE), process: std::process::id() };
        // Between our open and our lock the file may have been removed: that lock protects nothing.
        if !lease.is_current() {
            return Ok(Attempt::Moved);
        }
        let holder = Holder { owner: Some(Owner::own()?), purpose: printable(purpose) };
        lease
            .write(&serde_json::to_vec(&holder).expect("numbers and a string"))
            .map_err(|error| failed(&lease.path, error))?;
        Ok(Attempt::Taken(lease))
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A forked child holds a copy of this value and shares the lock: its end must not free ours.
        if self.process != std::process::id() {
            return;
        }
        let _ = self.write(b"");
        // SAFETY: a plain system call on a descriptor that `self.file` keeps open. Needed, because
        // closing does not unlock while a forked child still has the file.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

enum Attempt {
    Taken(Lease),
    Held(Holder),
    Moved,
}

impl Holder {
    /// Never fails: an empty or strange file still means that somebody holds the lock.
    fn read(file: &mut File) -> Holder {
        let mut text = Vec::new();
        let unknown = Holder { owner: None, purpose: String::new() };
        if file.take(4096).read_to_end(&mut text).is_err() {
            return unknown;
        }
        let said: Holder = serde_json::from_slice(&text).unwrap_or(unknown);
        Holder { purpose: printable(&said.purpose), ..said }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(formatter, "process {} ({})", owner.pid, self.purpose),
            None => formatter.write_str("a process that has not said its name"),
        }
    }
}

/// What may reach a terminal: no control characters, no bidirectional overrides, not too long.
fn printable(text: &str) -> String {
    let bidi =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
    text.chars().filter(|c| !c.is_control() && !bidi(*c)).take(LONGEST_PURPOSE).collect()
}

fn open(directory: &Path) -> Result<File> {
    let folder = directory::open_private(directory)?;
    let path = directory.join(FILE);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = nix::fcntl::openat(&folder, FILE, flags, Mode::from_bits_truncate(0o600));
    let file = File::from(file.map_err(|errno| failed(&path, errno.into()))?);
    let facts = file.metadata().map_err(|error| failed(&path, error))?;
    if !facts.is_file() || facts.nlink() > 1 || facts.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::Machine(format!("{} is not a plain file of our own; remove it", path.display())));
    }
    Ok(file)
}

/// False if another open file holds the lock.
fn lock(file: &File, directory: &Path) -> Result<bool> {
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    match Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(Errno::EINTR) => lock(file, directory),
        Err(errno) => Err(failed(&directory.join(FILE), errno.into())),
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    let hint = if error.kind() == ErrorKind::PermissionDenied {
        "; set XDG_RUNTIME_DIR to a directory of your own"
    } else {
        ""
    };
    Error::Machine(format!("the timing lease {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests;
