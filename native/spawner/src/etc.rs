//! The little of /etc that a sandbox has.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nightfleet_spawner::wire::Network;

/// Files of /etc that runtimes read, copied (a copy costs no mount).
const FILES: [&str; 8] =
    ["ld.so.cache", "ld.so.conf", "localtime", "timezone", "protocols", "services", "mime.types", "locale.alias"];
/// Directories of /etc that runtimes read, copied as well.
const DIRECTORIES: [&str; 2] = ["alternatives", "ld.so.conf.d"];
/// Directories of /etc that are larger and mounted: certificates.
pub const MOUNTED: [&str; 1] = ["ssl"];
/// What set-up needs of /etc to resolve names.
const NETWORK: [&str; 2] = ["resolv.conf", "hosts"];
/// What is put under /etc: a path below it, and content or the target of a link.
pub type Entry = (PathBuf, Content);

/// What lies at a path.
pub enum Content {
    /// A file's bytes.
    File(Vec<u8>),
    /// A link's target.
    Link(PathBuf),
}

/// Reads what the new root will have, while the host is still in sight.
pub fn read(network: Network) -> Vec<Entry> {
    let network = if network == Network::Host { &NETWORK[..] } else { &[] };
    let mut found = Vec::new();
    for name in FILES.iter().chain(network) {
        // What resolves on the host must resolve inside: links of these files are followed.
        found.extend(fs::read(Path::new("/etc").join(name)).ok().map(|b| (PathBuf::from(name), Content::File(b))));
    }
    let java = java_configuration();
    for directory in DIRECTORIES.iter().map(|name| Path::new("/etc").join(name)).chain(java) {
        read_small_directory(&directory, &mut found, 0);
    }
    found
}

/// Largest file and deepest directory that are copied from /etc.
const MAX_BYTES: u64 = 1 << 20;
const MAX_DEPTH: usize = 8;

fn read_small_directory(directory: &Path, found: &mut Vec<Entry>, depth: usize) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(inside) = path.strip_prefix("/etc").map(Path::to_path_buf) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                found.extend(fs::read_link(&path).ok().map(|target| (inside, Content::Link(target))));
            }
            Ok(metadata) if metadata.is_dir() && depth < MAX_DEPTH => read_small_directory(&path, found, depth + 1),
            Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_BYTES => {
                found.extend(fs::read(&path).ok().map(|bytes| (inside, Content::File(bytes))));
            }
            _ => {}
        }
    }
}

/// Debian's Java keeps its configuration under /etc/java-*.
fn java_configuration() -> Vec<PathBuf> {
    let is_java = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("java"));
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && is_java(path)).collect()
}

/// Writes them below `directory`.
pub fn write(entries: &[Entry], directory: &Path) -> io::Result<()> {
    for (inside, content) in entries {
        let path = directory.join(inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match content {
            Content::File(bytes) => fs::write(path, bytes)?,
            Content::Link(target) => symlink(target, path)?,
        }
    }
    Ok(())
}
