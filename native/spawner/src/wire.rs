//! Messages between the parent and its spawner: JSON over a `SOCK_SEQPACKET` pair, descriptors beside it.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::board::Report;
use crate::meter::Meter;

/// Largest message, bytes. A sequenced packet must fit the socket's send buffer (208 KiB by default).
pub const MAX_MESSAGE_BYTES: usize = 192 << 10;
/// Most descriptors beside one message.
pub const MAX_DESCRIPTORS: usize = 16;
/// What a sandboxed program may reach on the network.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nothing: an empty namespace, no sockets but pairs.
    None,
    /// TCP within a namespace of the trial's own.
    Loopback,
    /// The host's network (set-up only).
    Host,
}

/// One host path made visible inside.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bind {
    /// Where it is on the host; absolute.
    pub source: PathBuf,
    /// Where it appears inside; absolute.
    pub target: PathBuf,
    /// Read-only unless true.
    pub writable: bool,
}

/// Limits that the spawner itself enforces, beside those of the control group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Limits {
    /// Processes and threads of the program at one time.
    pub pids: u64,
    /// Largest file the program may write, bytes (RLIMIT_FSIZE).
    pub file_bytes: u64,
    /// Size of the fresh file system that /tmp, HOME, /dev/shm and /out share, bytes.
    pub scratch_bytes: u64,
    /// Open descriptors a process.
    pub open_files: u64,
}

/// The first message: how to build the sandbox. Descriptors: the harness's process (a pidfd), `joins` cgroup
/// files, then one a meter.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Setup {
    /// False only for `unsafe_no_sandbox`: limits and clean-up, but no isolation.
    pub isolate: bool,
    /// Host directory that appears as /tree.
    pub tree: PathBuf,
    /// Whether /tree is writable.
    pub tree_writable: bool,
    /// Further host paths.
    pub binds: Vec<Bind>,
    /// The whole environment of the program.
    pub environment: Vec<(String, String)>,
    /// What of the network is reachable.
    pub network: Network,
    /// Whether named and abstract UNIX sockets may be made (build tools need them).
    pub unix_sockets: bool,
    /// Limits.
    pub limits: Limits,
    /// The cap on tasks where no control group counts them: init does, and answers for the refusals.
    pub counted_tasks: Option<u64>,
    /// Cores of the spawner, of each trial's init and of the program, which sleep while another of them works:
    /// on one core a start needs no wake-up across cores. Empty means all.
    pub cores: Vec<usize>,
    /// How many cgroup files to join come with this message.
    pub joins: usize,
    /// The meters whose files follow.
    pub meters: Vec<Meter>,
}

/// One program to run. Descriptors: stdin, stdout, stderr, and with `files` the pipe for output files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Launch {
    /// Program and arguments; a name without a slash is looked up on the PATH of the environment.
    pub argv: Vec<String>,
    /// Working directory inside.
    pub cwd: String,
    /// When the spawner itself ends it, milliseconds from the launch: well past the harness's own deadline, for
    /// a harness that is there no more.
    pub deadline_ms: u32,
    /// Whether the regular files under /out are sent over the fourth descriptor at the end.
    pub files: bool,
}

/// Parent to spawner.
#[derive(Debug, Deserialize, Serialize)]
pub enum Request {
    /// Build the sandbox.
    Setup(Box<Setup>),
    /// Run a program in it.
    Launch(Launch),
    /// End the running program and all that it started.
    Kill,
}

/// Spawner to parent.
#[derive(Debug, Deserialize, Serialize)]
pub enum Reply {
    /// The sandbox stands. Each promise with the mechanism that keeps it, or "lost: why".
    Ready(BTreeMap<String, String>),
    /// The sandbox could not be built: the step, and the system's answer.
    Refused {
        /// What was being done.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// The program's init runs under this process id of the host.
    Started(i32),
    /// The program is gone and so is everything it started.
    Done(Box<Report>),
}

/// Sends one message. Errors: `EMSGSIZE` when it is larger than [`MAX_MESSAGE_BYTES`].
pub fn send<T: Serialize>(socket: RawFd, message: &T, descriptors: &[RawFd]) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    if bytes.len() > MAX_MESSAGE_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::EMSGSIZE);
    }
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one message and its descriptors (close-on-exec); `None` when the other end is gone.
pub fn receive<T: DeserializeOwned>(socket: RawFd) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    // Asked for first: a buffer for the largest message would be touched page by page in every trial.
    let length = loop {
        match nix::sys::socket::recv(socket, &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut bytes = vec![0; length];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the kernel has just installed these descriptors for us; nobody else owns them.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes).map_err(|_| Errno::EBADMSG)?;
    Ok(Some((message, descriptors)))
}

/// The raw numbers of some descriptors, for [`send`].
pub fn raw(descriptors: &[OwnedFd]) -> Vec<RawFd> {
    descriptors.iter().map(AsRawFd::as_raw_fd).collect()
}
