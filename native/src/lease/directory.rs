//! The private runtime directory in which the lease lives.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Error, Result};

/// Where this user's lease lives, made if it was missing: `$XDG_RUNTIME_DIR/nightfleet`, else
/// `/run/user/<uid>/nightfleet`, which is what a login without the variable (cron, sudo) would
/// otherwise miss, else `/run/nightfleet` for root, else `$TMPDIR/nightfleet-<uid>`.
///
/// The first that can be made is used; one that exists but is not private is refused, never skipped:
/// to skip it would let whoever put it there split one lease into two.
pub fn runtime_dir() -> Result<PathBuf> {
    first_usable(&candidates(nix::unistd::geteuid().as_raw(), |name| env::var_os(name)))
}

fn candidates(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")));
    let mut found = vec![runtime.join("nightfleet")];
    if uid == 0 {
        found.push("/run/nightfleet".into());
    }
    let temporary = absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
    found.push(temporary.join(format!("nightfleet-{uid}")));
    found
}

fn first_usable(candidates: &[PathBuf]) -> Result<PathBuf> {
    let mut reasons = Vec::new();
    for path in candidates {
        match make(path) {
            Ok(()) => return open_private(path).map(|_| path.clone()),
            Err(error) => reasons.push(format!("{}: {error}", path.display())),
        }
    }
    Err(Error::Machine(format!(
        "no directory for the timing lease ({}); set XDG_RUNTIME_DIR to a directory of your own",
        reasons.join("; ")
    )))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The directory, opened without following a link, if nobody else can enter it.
pub(super) fn open_private(path: &Path) -> Result<OwnedFd> {
    let refuse = |why: &str| Err(Error::Machine(format!("the lease directory {} {why}", path.display())));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = match nix::fcntl::open(path, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            return refuse("is a link or not a directory; remove it");
        }
        Err(errno) => return refuse(&format!("cannot be opened: {errno}")),
    };
    let facts = fstat(&folder).map_err(|errno| Error::Machine(format!("{}: {errno}", path.display())))?;
    let uid = nix::unistd::geteuid().as_raw();
    if facts.st_uid != uid {
        return refuse(&format!(
            "belongs to user {}, not to us ({uid}); remove it or set XDG_RUNTIME_DIR",
            facts.st_uid
        ));
    }
    let mode = facts.st_mode & !SFlag::S_IFMT.bits();
    if mode & 0o077 != 0 {
        return refuse(&format!("is open to others (mode {mode:o}); type: chmod 700 {}", path.display()));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("nightfleet-directory-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        path
    }

    #[test]
    fn the_order_of_places() {
        let none = |_: &str| None;
        assert_eq!(candidates(7, none), [PathBuf::from("/run/user/7/nightfleet"), "/tmp/nightfleet-7".into()]);
        assert_eq!(candidates(0, none)[1], PathBuf::from("/run/nightfleet"));
        let set = |name: &str| Some(OsString::from(if name == "TMPDIR" { "/t" } else { "/x" }));
        assert_eq!(candidates(7, set), [PathBuf::from("/x/nightfleet"), "/t/nightfleet-7".into()]);
        let relative = |_: &str| Some(OsString::from("x"));
        assert_eq!(
            candidates(7, relative),
            candidates(7, none),
            "a relative path would depend on the working directory"
        );
    }

    #[test]
    fn the_first_that_can_be_made_is_made_private() {
        let root = scratch("first");
        let good = root.join("good");
        assert_eq!(first_usable(&[root.join("missing/x"), good.clone(), root.join("never")]), Ok(good.clone()));
        assert_eq!(fs::metadata(&good).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(!root.join("never").exists());
        let Err(Error::Machine(message)) = first_usable(&[root.join("missing/x")]) else { panic!("made") };
        assert!(message.contains("missing/x: No such file") && message.contains("XDG_RUNTIME_DIR"), "{message}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_not_private_is_refused_and_never_skipped() {
        let root = scratch("private");
        let (open, link, file) = (root.join("open"), root.join("link"), root.join("file"));
        fs::create_dir(&open).unwrap();
        symlink(&root, &link).unwrap();
        fs::write(&file, "").unwrap();
        for mode in [0o701, 0o710, 0o770, 0o1702, 0o755] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            let Err(Error::Machine(message)) = first_usable(&[open.clone(), root.join("next")]) else {
                panic!("took {mode:o}")
            };
            assert!(message.contains("open to others") && message.contains("chmod 700"), "{message}");
        }
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(first_usable(std::slice::from_ref(&open)).is_ok());
        for path in [&link, &file] {
            assert!(first_usable(&[path.clone(), root.join("next")]).is_err(), "took {}", path.display());
        }
        assert!(!root.join("next").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn another_users_directory_is_refused() {
        // Root can give one away; to an ordinary user the root directory is somebody else's.
        let root = nix::unistd::geteuid().is_root().then(|| scratch("owner"));
        let theirs = root.clone().unwrap_or_else(|| "/".into());
        if root.is_some() {
            std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        }
        let Err(Error::Machine(message)) = open_private(&theirs) else { panic!("took {}", theirs.display()) };
        assert!(message.contains("belongs to user"), "{message}");
        if let Some(root) = root {
            fs::remove_dir_all(root).unwrap();
        }
    }
}
