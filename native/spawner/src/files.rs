//! The output files of a trial, read once everything that could change them is dead.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Sends the regular files under /out: for each the length of its path, the path, the length of its
/// content, the content; lengths as u64, little-endian; sorted by path. Anything else that lies there
/// (links, pipes) is sent as a path with the length `u64::MAX` and no content.
pub fn send(pipe: &OwnedFd) {
    let Ok(pipe) = pipe.try_clone() else { return };
    let mut pipe = fs::File::from(pipe);
    let mut found = Vec::new();
    list(Path::new("/out"), &mut found, 0);
    found.sort();
    for path in found {
        if send_file(&mut pipe, &path).is_err() {
            return;
        }
    }
}

/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 32;

fn list(directory: &Path, found: &mut Vec<PathBuf>, depth: usize) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && depth < MAX_DEPTH {
            list(&entry.path(), found, depth + 1);
        } else {
            found.push(entry.path());
        }
    }
}

fn send_file(pipe: &mut fs::File, path: &Path) -> std::io::Result<()> {
    let name = path.strip_prefix("/out").unwrap_or(path).as_os_str().as_encoded_bytes();
    pipe.write_all(&(name.len() as u64).to_le_bytes())?;
    pipe.write_all(name)?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let regular = opened.ok().and_then(|file| file.metadata().ok().filter(fs::Metadata::is_file).map(|m| (file, m)));
    let Some((mut file, metadata)) = regular else {
        return pipe.write_all(&u64::MAX.to_le_bytes());
    };
    pipe.write_all(&metadata.len().to_le_bytes())?;
    // Nothing is alive that could change the file now, so its length holds.
    std::io::copy(&mut file, pipe).map(drop)
}
