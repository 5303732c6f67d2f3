//! A sandbox as the harness holds it: one spawner process, the control group around it, and what was promised.
//!
//! What is **not** covered: side channels (timing of shared caches, load of the machine), bugs in the
//! kernel itself, and, where the user runs the harness as an ordinary user, files of their supplementary
//! groups among the paths they chose to make visible. Without a writable control group, memory is
//! watched by polling and can be overshot between two looks; the sandbox's facts say so.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nightfleet_spawner::ids::{OUTER_ID_OF_ROOT, maps_outer_id};
use nightfleet_spawner::meter::Meter;
use nightfleet_spawner::wire::{self, Reply, Request, Setup};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Uid;

use crate::cgroup::{self, Slot};
use crate::error::{Error, Result};
use crate::profile::{Options, plan};

/// How long a sandbox may take to stand before the machine is called broken.
const SETUP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a wait looks whether it was cancelled, in milliseconds.
const LOOK_EVERY: u8 = 50;
/// How long a spawner may take to end by itself.
const PARTING: Duration = Duration::from_secs(1);
/// Tasks of the sandbox itself: the spawner, a trial's init, and the child that counts ids.
const OWN_TASKS: u32 = 3;
/// Memory of the same, with room for page tables and kernel stacks.
const OWN_MEMORY_BYTES: u64 = 8 * MIB;
const MIB: u64 = 1 << 20;

/// One spawner process and all that stands around it.
pub struct Sandbox {
    options: Options,
    pub(crate) setup: Setup,
    pub(crate) socket: OwnedFd,
    pub(crate) meters: Vec<(Meter, OwnedFd)>,
    pub(crate) memory_bytes: u64,
    pub(crate) pids: u64,
    pub(crate) poisoned: bool,
    /// The process that made it. A forked child has the same socket and must leave it alone.
    owner: u32,
    spawner: Child,
    promises: BTreeMap<String, String>,
    // Dropped after the spawner is gone: a group with a process in it cannot be removed.
    _slot: Option<Slot>,
    _scratch: Option<ScratchDirectory>,
}

impl Sandbox {
    /// Starts a spawner and waits until its sandbox stands. Errors: `User` for impossible requests and
    /// paths, `Machine` where the kernel withholds something below the stated minimum.
    pub fn open(options: &Options, cancel: &AtomicBool) -> Result<Self> {
        let memory_bytes = options.memory_bytes()?;
        let scratch = options.unsafe_no_sandbox.then(ScratchDirectory::create).transpose()?;
        let mut setup = plan(options, scratch.as_ref().map(|s| s.0.as_path()))?;
        // Once a process: groups whose owner was killed before it could remove them.
        static RECLAIM: std::sync::Once = std::sync::Once::new();
        RECLAIM.call_once(|| drop(cgroup::reclaim()));
        let slot = Slot::create(
            &format!("{}", NEXT_SANDBOX.fetch_add(1, Ordering::Relaxed)),
            cgroup::Limits {
                memory_bytes: Some(memory_bytes),
                pids: Some(u32::try_from(setup.limits.pids).unwrap_or(u32::MAX)),
                allowance: cgroup::Allowance { memory_bytes: OWN_MEMORY_BYTES, pids: OWN_TASKS },
            },
        )?;
        let (joins, meters) = match &slot {
            Some(slot) => (slot.join_files()?, slot.meter_files()?),
            None => (Vec::new(), Vec::new()),
        };
        setup.joins = joins.len();
        setup.meters = meters.iter().map(|(meter, _)| *meter).collect();
        let pids = setup.limits.pids;
        // The plain limit refuses without a trace: let whoever can tell (the group, or our own count of the
        // tree) meet the cap first, and keep the plain limit as what holds between two looks.
        setup.limits.pids = pids * 2 + 64;
        setup.counted_tasks = (!has(&setup.meters, Meter::ForksRefused)).then_some(pids);
        if !has(&setup.meters, Meter::MemoryNow) {
            // Nobody counts what lies in scratch file systems here, so they may hold no more than the limit.
            setup.limits.scratch_bytes = setup.limits.scratch_bytes.min(memory_bytes);
        }
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| Error::Machine(format!("no socket pair for the spawner: {errno}")))?;
        let spawner = start_spawner(theirs)?;
        let own = own_process()?;
        let descriptors: Vec<_> = std::iter::once(own.as_raw_fd())
            .chain(joins.iter().map(AsRawFd::as_raw_fd))
            .chain(meters.iter().map(|(_, fd)| fd.as_raw_fd()))
            .collect();
        let mut sandbox = Self {
            options: options.clone(),
            setup,
            socket,
            meters,
            memory_bytes,
            pids,
            poisoned: false,
            owner: std::process::id(),
            spawner,
            promises: BTreeMap::new(),
            _slot: slot,
            _scratch: scratch,
        };
        let request = Request::Setup(Box::new(sandbox.setup.clone()));
        sandbox.tell(&request, &descriptors)?;
        sandbox.promises = sandbox.await_ready(cancel)?;
        Ok(sandbox)
    }

    /// Makes the sandbox whole again after a trial that was broken off or took the spawner along.
    pub(crate) fn mend(&mut self, cancel: &AtomicBool) -> Result<()> {
        if self.owner != std::process::id() {
            return Err(Error::User(format!(
                "this sandbox belongs to process {}; a forked child has to make its own",
                self.owner
            )));
        }
        if self.poisoned {
            *self = Self::open(&self.options.clone(), cancel)?;
        }
        Ok(())
    }

    /// Sends a request. Errors: `User` when it is too large for one message, `Machine` when nobody listens.
    pub(crate) fn tell(&self, request: &Request, descriptors: &[std::os::fd::RawFd]) -> Result<()> {
        wire::send(self.socket.as_raw_fd(), request, descriptors).map_err(|errno| match errno {
            Errno::EMSGSIZE => Error::User(format!(
                "paths, command and environment together take more than {} bytes when encoded; use fewer or shorter ones",
                wire::MAX_MESSAGE_BYTES
            )),
            _ => spawner_gone(errno.desc()),
        })
    }

    fn await_ready(&mut self, cancel: &AtomicBool) -> Result<BTreeMap<String, String>> {
        let started = Instant::now();
        loop {
            let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, LOOK_EVERY).is_ok_and(|ready| ready > 0) {
                break;
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            if started.elapsed() >= SETUP_TIMEOUT {
                let limit = SETUP_TIMEOUT.as_secs();
                return Err(Error::Machine(format!("the sandbox did not stand within {limit} s")));
            }
        }
        match wire::receive::<Reply>(self.socket.as_raw_fd()) {
            Ok(Some((Reply::Ready(promises), _))) => Ok(promises),
            Ok(Some((Reply::Refused { step, errno }, _))) => Err(self.explain(&step, Errno::from_raw(errno))),
            _ => Err(spawner_gone("it ended while building the sandbox")),
        }
    }

    fn explain(&self, step: &str, errno: Errno) -> Error {
        let why = format!("{step}: {}", errno.desc());
        let tree = self.setup.tree.display();
        if step == "using the tree" {
            let id = sandbox_uid();
            return Error::User(format!(
                "the tree {tree} cannot be used by the sandbox's user (host id {id}): {why}; \
                 hand a tree of your own making over with nightfleet.native.give_tree(path)"
            ));
        }
        let mounts_a_bind =
            self.options.binds.iter().any(|bind| step == format!("mounting {} in the sandbox", bind.target.display()));
        if mounts_a_bind {
            return Error::User(format!(
                "{why}; what is shown below /tree must be there in the tree, and a file must be shown over a file"
            ));
        }
        if step.starts_with("opening") || step.starts_with("writing to") {
            return Error::User(why);
        }
        let advice = match step {
            "creating a user namespace" => {
                "; user namespaces are needed: see sysctl kernel.unprivileged_userns_clone, \
                 user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, and in a container \
                 its seccomp profile"
            }
            _ => "",
        };
        Error::Machine(format!(
            "the kernel withheld what the sandbox needs: {why}{advice}; `nightfleet probe` shows what holds here"
        ))
    }

    /// Each promise with the mechanism that keeps it, or "lost: why".
    pub fn promises(&self) -> &BTreeMap<String, String> {
        &self.promises
    }

    /// Promises, and where the figures come from, for people.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = self.promises.clone();
        facts.insert("cpu_source".to_owned(), self.cpu_source().to_owned());
        facts.insert("memory_source".to_owned(), self.memory_source().to_owned());
        facts
    }

    /// Where CPU time comes from.
    pub fn cpu_source(&self) -> &'static str {
        if has(&self.setup.meters, Meter::CpuacctUsage) {
            "cgroup v1"
        } else if has(&self.setup.meters, Meter::CpuStat) {
            "cgroup v2"
        } else {
            "rusage"
        }
    }

    /// Where peak memory comes from.
    pub fn memory_source(&self) -> &'static str {
        if has(&self.setup.meters, Meter::MemoryPeak) { "cgroup" } else { "polled" }
    }

    /// Where a place inside lies for the program: the same, or the host's own path without a sandbox.
    pub(crate) fn place(&self, inside: &str) -> String {
        let within = inside.strip_prefix("/tree").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match within {
            Some(rest) if !self.setup.isolate => format!("{}{rest}", self.setup.tree.display()),
            _ => inside.to_owned(),
        }
    }

    /// Whether the control group sees to a cap by itself.
    pub(crate) fn counts(&self, meter: Meter) -> bool {
        has(&self.setup.meters, meter)
    }

    /// Reads one meter; 0 where it is missing.
    pub(crate) fn meter(&self, wanted: Meter) -> u64 {
        let found = self.meters.iter().find(|(meter, _)| *meter == wanted);
        found.and_then(|(meter, file)| meter.read(file).ok()).unwrap_or(0)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // The spawner ends when its socket does, and takes a running trial along.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let started = Instant::now();
        while !matches!(self.spawner.try_wait(), Ok(Some(_)) | Err(_)) {
            if started.elapsed() > PARTING {
                // Stopped or stuck; its death takes init along, and init's death everything else.
                let _ = self.spawner.kill();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

static NEXT_SANDBOX: AtomicU64 = AtomicU64::new(0);

fn has(meters: &[Meter], wanted: Meter) -> bool {
    meters.contains(&wanted)
}

/// A descriptor of this process, for spawners to see it die by.
fn own_process() -> Result<OwnedFd> {
    // SAFETY: asks for a descriptor of our own process, which is ours then.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) })
        .map_err(|errno| Error::Machine(format!("no descriptor of this process: {}", errno.desc())))?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(crate) fn spawner_gone(why: &str) -> Error {
    Error::Machine(format!("the spawner is gone: {why}"))
}

/// The host id that sandboxed programs run as.
pub fn sandbox_uid() -> u32 {
    let own = Uid::effective();
    if own.is_root() && maps_outer_id() { OUTER_ID_OF_ROOT } else { own.as_raw() }
}

/// Hands a tree that the harness made to the sandbox's user, so that sandboxed programs can read and
/// write it. Links are not followed. As an ordinary user there is nothing to do. Errors: `User` for a
/// path that is no directory, `Machine` when the owner cannot be changed.
pub fn give_tree(path: &Path, cancel: &AtomicBool) -> Result<()> {
    if !path.is_dir() {
        return Err(Error::User(format!("give_tree: {} is no directory", path.display())));
    }
    if Uid::effective().is_root() { give(path, sandbox_uid(), cancel) } else { Ok(()) }
}

fn give(path: &Path, id: u32, cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let refused = |error: std::io::Error| Error::Machine(format!("handing over {}: {error}", path.display()));
    std::os::unix::fs::lchown(path, Some(id), Some(id)).map_err(refused)?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).map_err(refused)? {
            give(&entry.map_err(refused)?.path(), id, cancel)?;
        }
    }
    Ok(())
}

/// The spawner's image in memory, sealed, so that nothing on disk has to be found or trusted.
fn spawner_image() -> Result<&'static OwnedFd> {
    static IMAGE: OnceLock<std::result::Result<OwnedFd, String>> = OnceLock::new();
    let made = IMAGE.get_or_init(|| {
        let image = memfd_create(c"nightfleet-spawner", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(|errno| errno.to_string())?;
        let mut file = std::fs::File::from(image);
        file.write_all(crate::SPAWNER_ELF).map_err(|error| error.to_string())?;
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        // SAFETY: seals a descriptor that is ours.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })
            .map_err(|errno| errno.to_string())?;
        Ok(OwnedFd::from(file))
    });
    made.as_ref().map_err(|why| Error::Machine(format!("the spawner's image could not be held in memory: {why}")))
}

/// A path that executes the spawner from a child of this process, which still has its descriptors.
pub(crate) fn spawner_path() -> Result<String> {
    Ok(format!("/proc/self/fd/{}", spawner_image()?.as_raw_fd()))
}

fn start_spawner(socket: OwnedFd) -> Result<Child> {
    Command::new(spawner_path()?)
        .arg0("nightfleet-spawner")
        .env_clear()
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::Machine(format!("the spawner could not be started: {error}")))
}

/// A private directory that stands in for the fresh file systems where there is no sandbox.
struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    fn create() -> Result<Self> {
        let template = std::env::temp_dir().join("nightfleet-unsafe-XXXXXX");
        nix::unistd::mkdtemp(&template)
            .map(Self)
            .map_err(|errno| Error::Machine(format!("no scratch directory like {}: {errno}", template.display())))
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
