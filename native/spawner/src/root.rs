//! Building the sandbox once per spawner: ids, namespaces, and the minimal root that every trial copies.
//!
//! The spawner itself lives inside: once the root is pivoted into, nothing of the host is left to reach,
//! and a trial only adds what must be its own (process ids, /proc, fresh scratch file systems).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::etc;
use crate::scratch;
use nightfleet_spawner::ids::{INNER_ID, OUTER_ID_OF_ROOT, maps_outer_id};
use nightfleet_spawner::wire::{Bind, Network, Setup};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Gid, Uid, fork, getegid, geteuid, getpid, pipe, pivot_root, setresgid, setresuid};

/// What was being done when the system said no.
pub struct Refusal {
    /// The step, in words.
    pub step: String,
    /// The error number.
    pub errno: Errno,
}

/// A result whose error names the step.
pub type Outcome<T> = Result<T, Refusal>;

/// Names the step of an error, whichever library's it is.
pub trait At<T> {
    /// Attaches the step.
    fn at(self, step: impl Into<String>) -> Outcome<T>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: impl Into<String>) -> Outcome<T> {
        self.map_err(|errno| Refusal { step: step.into(), errno })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: impl Into<String>) -> Outcome<T> {
        self.map_err(|error| Refusal {
            step: step.into(),
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// Device nodes: those that a program may rely on and that hold no state. Their mounts are read-only like all
/// others, which forbids changing their times, not writing to them.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Top-level directories of programs and libraries; symbolic links on merged-/usr systems.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Files that hold keys, hidden by an empty file wherever a visible path has them at its top.
const CREDENTIALS: [&str; 10] = [
    "credentials",
    "credentials.toml",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".gitconfig",
    "settings.xml",
    "settings-security.xml",
    "pip.conf",
];

/// A host path opened before the root changes. Binding from a descriptor needs no search permission on
/// the directories above it, which the sandbox's user may lack.
struct Source {
    fd: OwnedFd,
    target: PathBuf,
    writable: bool,
    device: bool,
    directory: bool,
}

/// Enters new namespaces and the new root. After this the process sees only the sandbox.
pub fn enter(setup: &Setup) -> Outcome<String> {
    let ids = enter_namespaces(setup)?;
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none()).at("making mounts private")?;
    let etc = etc::read(setup.network);
    let sources = open_sources(setup)?;
    setresgid(Gid::from_raw(INNER_ID), Gid::from_raw(INNER_ID), Gid::from_raw(INNER_ID)).at("setting the group id")?;
    setresuid(Uid::from_raw(INNER_ID), Uid::from_raw(INNER_ID), Uid::from_raw(INNER_ID)).at("setting the user id")?;
    nix::unistd::sethostname("nightfleet").at("setting the host name")?;
    let root = Path::new("/tmp");
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=64m,mode=0755"))
        .at("mounting the new root")?;
    furnish(root, &etc).at("furnishing the new root")?;
    for source in &sources {
        attach(root, source)?;
    }
    change_root(root)?;
    check_access(setup)?;
    Ok(ids)
}

fn none() -> Option<&'static str> {
    None
}

/// New user, mount, ipc, uts, net and cgroup namespaces, with one id mapped: never 0.
fn enter_namespaces(setup: &Setup) -> Outcome<String> {
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if setup.network != Network::Host {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    let step = "creating a user namespace";
    let (uid, gid) = (geteuid(), getegid());
    if !uid.is_root() || !maps_outer_id() {
        unshare(flags).at(step)?;
        write_maps("self", uid.as_raw(), gid.as_raw()).at("mapping the user's id")?;
        return Ok(if uid.is_root() {
            "user namespace (host id 0 without capabilities: this container maps no other)".to_owned()
        } else {
            "user namespace".to_owned()
        });
    }
    // Only a process that stays outside with its privileges may map another id than its own.
    nix::unistd::setgroups(&[]).at("dropping supplementary groups")?;
    let (read_end, write_end) = pipe().at("making a pipe")?;
    let spawner = getpid();
    // SAFETY: single-threaded; the child only reads a pipe, writes three files and leaves.
    match unsafe { fork() }.at("forking the id mapper")? {
        ForkResult::Child => {
            drop(write_end);
            let _ = nix::unistd::read(&read_end, &mut [0]);
            let written = write_maps(&spawner.to_string(), OUTER_ID_OF_ROOT, OUTER_ID_OF_ROOT);
            let code = written.err().and_then(|e| e.raw_os_error()).unwrap_or(0);
            // SAFETY: nothing of this process needs unwinding.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            unshare(flags).at(step)?;
            drop(write_end);
            match nix::sys::wait::waitpid(child, None).at("waiting for the id mapper")? {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok("user namespace (own host id)".to_owned()),
                nix::sys::wait::WaitStatus::Exited(_, code) => {
                    Err(Errno::from_raw(code)).at("mapping the sandbox's id")
                }
                _ => Err(Errno::ECHILD).at("mapping the sandbox's id"),
            }
        }
    }
}

fn write_maps(process: &str, uid: u32, gid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/setgroups"), "deny")?;
    fs::write(format!("/proc/{process}/gid_map"), format!("{INNER_ID} {gid} 1"))?;
    fs::write(format!("/proc/{process}/uid_map"), format!("{INNER_ID} {uid} 1"))
}

fn open_sources(setup: &Setup) -> Outcome<Vec<Source>> {
    let mut sources = Vec::new();
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        if path.is_dir() && !path.is_symlink() {
            sources.push(open_source(&path, path.clone(), false)?);
        }
    }
    for name in etc::MOUNTED {
        let path = Path::new("/etc").join(name);
        if path.is_dir() {
            sources.push(open_source(&path, path.clone(), false)?);
        }
    }
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let mut source = open_source(&path, path.clone(), false)?;
        source.device = true;
        sources.push(source);
    }
    // The host's /proc is only the witness that this kernel may mount another: each trial covers it.
    sources.push(open_source(Path::new("/proc"), "/proc".into(), false)?);
    // Shallow targets first, so that one path may lie within another.
    let mut binds: Vec<&Bind> = setup.binds.iter().collect();
    binds.sort_by_key(|bind| bind.target.components().count());
    sources.push(open_source(&setup.tree, "/tree".into(), setup.tree_writable)?);
    for bind in binds {
        let target = stored(&bind.target);
        sources.push(open_source(&bind.source, target.clone(), bind.writable)?);
        for name in CREDENTIALS.iter().filter(|name| bind.source.join(name).is_file()) {
            sources.push(open_source(Path::new("/dev/null"), target.join(name), false)?);
        }
    }
    Ok(sources)
}

/// Where paths wait that would be covered by a trial's fresh file systems.
const COVERED: &str = "/.covered";

/// Where a path is mounted in the root: in place, or aside when a scratch file system will cover it.
fn stored(target: &Path) -> PathBuf {
    let real = target.strip_prefix("/var/tmp").map_or(target.to_owned(), |rest| Path::new("/tmp").join(rest));
    let covered = scratch::PLACES.iter().any(|place| real.starts_with(place));
    if covered { Path::new(COVERED).join(real.strip_prefix("/").unwrap_or(&real)) } else { real }
}

/// Puts the paths that wait aside where they belong, on top of a trial's fresh file systems.
pub fn uncover(setup: &Setup) -> nix::Result<()> {
    let mut binds: Vec<&Bind> = setup.binds.iter().filter(|bind| stored(&bind.target).starts_with(COVERED)).collect();
    binds.sort_by_key(|bind| bind.target.components().count());
    for bind in binds {
        let source = stored(&bind.target);
        let made = if source.is_dir() {
            fs::create_dir_all(&bind.target)
        } else {
            let parent = bind.target.parent().map_or(Ok(()), fs::create_dir_all);
            parent.and_then(|()| fs::File::create(&bind.target)).map(drop)
        };
        made.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        // A bind keeps the flags of what it binds, so read-only stays read-only.
        mount(Some(source.as_path()), &bind.target, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none())?;
    }
    Ok(())
}

fn open_source(path: &Path, target: PathBuf, writable: bool) -> Outcome<Source> {
    let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(format!("opening {}", path.display()))?;
    Ok(Source { fd, target, writable, device: false, directory: path.is_dir() })
}

/// Directories, links and small files of the new root.
fn furnish(root: &Path, etc: &[etc::Entry]) -> io::Result<()> {
    for directory in
        ["etc", "dev/shm", "proc", "tmp", "home/nightfleet", "out", "tree", "var", "run", ".host", ".scratch"]
    {
        fs::create_dir_all(root.join(directory))?;
    }
    symlink("/tmp", root.join("var/tmp"))?;
    for name in SYSTEM {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            symlink(target, root.join(name))?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, root.join("dev").join(name))?;
    }
    let id = INNER_ID;
    fs::write(root.join("etc/passwd"), format!("nightfleet:x:{id}:{id}:nightfleet:/home/nightfleet:/bin/sh\n"))?;
    fs::write(root.join("etc/group"), format!("nightfleet:x:{id}:\n"))?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost nightfleet\n::1 localhost\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
    etc::write(etc, &root.join("etc"))?;
    Ok(())
}

/// Binds one source into the root, read-only unless writable, never with set-id bits or devices.
fn attach(root: &Path, source: &Source) -> Outcome<()> {
    let inside = source.target.strip_prefix("/").unwrap_or(&source.target);
    let target = root.join(inside);
    let step = || format!("mounting {} in the sandbox", source.target.display());
    if source.directory {
        fs::create_dir_all(&target).at(step())?;
    } else if !target.exists() {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).at(step())?;
        }
        fs::File::create(&target).at(step())?;
    }
    let from = format!("/proc/self/fd/{}", source.fd.as_raw_fd());
    mount(Some(from.as_str()), &target, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none()).at(step())?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID;
    if !source.device {
        attributes |= libc::MOUNT_ATTR_NODEV;
    }
    if !source.writable {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    set_attributes(&target, attributes, true).at(step())
}

fn set_attributes(target: &Path, attributes: u64, recursive: bool) -> nix::Result<()> {
    let path = CString::new(target.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is a live C string and `change` a live structure of the stated size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(&change),
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(answer).map(drop)
}

fn change_root(root: &Path) -> Outcome<()> {
    nix::unistd::chdir(root).at("entering the new root")?;
    pivot_root(".", ".host").at("pivoting into the new root")?;
    nix::unistd::chdir("/").at("entering the new root")?;
    umount2("/.host", MntFlags::MNT_DETACH).at("leaving the host's file systems")?;
    fs::remove_dir("/.host").at("leaving the host's file systems")?;
    set_attributes(Path::new("/"), libc::MOUNT_ATTR_RDONLY, false).at("making the new root read-only")
}

/// Fails early, in words, where the sandbox's user cannot use what it was given.
fn check_access(setup: &Setup) -> Outcome<()> {
    use nix::unistd::{AccessFlags, access};
    let mut needed = AccessFlags::R_OK | AccessFlags::X_OK;
    if setup.tree_writable {
        needed |= AccessFlags::W_OK;
    }
    access("/tree", needed).at("using the tree")?;
    for bind in setup.binds.iter().filter(|bind| bind.writable) {
        access(&stored(&bind.target), AccessFlags::W_OK).at(format!("writing to {}", bind.target.display()))?;
    }
    Ok(())
}
