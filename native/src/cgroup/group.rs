//! One directory of one hierarchy: made, filled in, emptied, removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Version;
use super::place::{Hierarchy, offer, switch_on};
use crate::error::{Error, Result};

/// Tasks leave a group a moment after they die; rmdir says EBUSY until then.
const REMOVE_TRIES: u32 = 50;

/// A group's directory. Dropping it does nothing: the slot that owns it knows the order.
#[derive(Debug)]
pub(super) struct Group {
    pub version: Version,
    pub path: PathBuf,
}

impl Group {
    /// Makes a group below our own or, on v2, below the nearest ancestor that offers the most.
    ///
    /// An ancestor is needed on v2, because our own group holds us and may then not hand memory on;
    /// limits that were put on our own group alone do not reach the slot.
    pub(super) fn create(hierarchy: &Hierarchy, name: &str) -> io::Result<Group> {
        let mut parents: Vec<&Path> = match hierarchy.version {
            Version::V1 => vec![&hierarchy.own],
            Version::V2 => hierarchy.upwards().collect(),
        };
        if hierarchy.version == Version::V2 {
            parents.sort_by_key(|parent| std::cmp::Reverse(offer(parent)));
        }
        let mut refusal = io::Error::from(ErrorKind::NotFound);
        for parent in parents {
            match Group::create_in(hierarchy.version, parent, name) {
                Ok(group) => return Ok(group),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
                Err(error) => refusal = io::Error::new(error.kind(), format!("{}: {error}", parent.display())),
            }
        }
        Err(refusal)
    }

    pub(super) fn create_in(version: Version, parent: &Path, name: &str) -> io::Result<Group> {
        if version == Version::V2 {
            // To move a process, one must be allowed to write here, in the common ancestor, too.
            fs::OpenOptions::new().write(true).open(parent.join("cgroup.procs"))?;
            switch_on(parent);
        }
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let group = Group { version, path };
        match group.accepts_processes() {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// A child of a threaded domain exists but takes no processes; a v1 file may lack our write bit.
    pub(super) fn accepts_processes(&self) -> io::Result<()> {
        let kind = fs::read_to_string(self.path.join("cgroup.type")).unwrap_or_else(|_| "domain".into());
        if kind.trim_end() != "domain" {
            return Err(io::Error::other(format!("a group here would be of type {}", kind.trim_end())));
        }
        self.open("cgroup.procs", false, true).map(drop)
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    pub(super) fn open(&self, file: &str, read: bool, write: bool) -> io::Result<OwnedFd> {
        // std opens with O_CLOEXEC.
        let opened =
            fs::OpenOptions::new().read(read).write(write).custom_flags(libc::O_NOFOLLOW).open(self.path.join(file))?;
        Ok(opened.into())
    }

    /// Writes a limit, and errs with the file's name and the value.
    pub(super) fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value)
            .map_err(|error| Error::Machine(format!("{value} could not be written to {}: {error}", path.display())))
    }

    /// The processes in the group; 0 stands for one that our pid namespace cannot name.
    pub(super) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// One attempt at killing everybody; true if there was anybody. A process that forks meanwhile
    /// is caught by the next attempt, or by the freezer where there is one.
    pub(super) fn kill_members(&self) -> bool {
        let frozen = !self.has("cgroup.kill") && fs::write(self.path.join("freezer.state"), "FROZEN").is_ok();
        let whole = fs::write(self.path.join("cgroup.kill"), "1").is_ok();
        let members = self.members();
        if !whole {
            self.signal(&members);
        }
        if frozen {
            // A frozen process dies of its signal only once it is thawed.
            let _ = fs::write(self.path.join("freezer.state"), "THAWED");
        }
        !members.is_empty()
    }

    /// Signals through descriptors, and only those that are still members once the descriptor is
    /// open: a number read from a file may belong to a stranger by the time it is used.
    pub(super) fn signal(&self, members: &[i32]) {
        // 0 and -1 would mean our own process group, and everybody.
        let handles: Vec<_> = members.iter().filter(|pid| **pid > 0).map(|pid| (*pid, pidfd(*pid))).collect();
        let still = self.members();
        for (pid, handle) in handles.into_iter().filter(|(pid, _)| still.contains(pid)) {
            match handle {
                Ok(handle) => send_kill(&handle),
                Err(Errno::ESRCH) => {}
                // No pidfd here (an old kernel, a filter): the number is all there is.
                Err(_) => drop(kill(Pid::from_raw(pid), Signal::SIGKILL)),
            }
        }
    }

    /// Removes the directory, waiting a few milliseconds for the dead to leave; true if it is gone.
    pub(super) fn remove(&self) -> bool {
        for _ in 0..REMOVE_TRIES {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return error.kind() == ErrorKind::NotFound,
                Ok(()) => return true,
            }
        }
        false
    }
}

fn pidfd(pid: i32) -> std::result::Result<OwnedFd, Errno> {
    // SAFETY: the call takes two plain integers and returns a new descriptor or an error.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

fn send_kill(process: &OwnedFd) {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null siginfo is allowed. ESRCH: it is dead already.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, no_info, 0) };
}
