//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

/// A file that is to replace another: written beside it, flushed, renamed over it. Dropped before
/// [`Replacement::commit`], it leaves nothing behind.
pub struct Replacement {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    committed: bool,
}

impl Replacement {
    /// Begins to replace `target`, which need not exist.
    ///
    /// # Errors
    /// See [`Error::io`].
    pub fn of(target: &Path) -> Result<Self, Error> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        if target.file_name().is_none() || target.is_dir() {
            return Err(Error::User(format!("cannot write {}: it does not name a file", target.display())));
        }
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = directory(target).join(format!(".nightfleet-{}-{number}.tmp", process::id()));
            match File::create_new(&temporary) {
                Ok(file) => return Ok(Self { target: target.into(), temporary, file, committed: false }),
                // Left by a process that was killed and had this number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("write", target, &error)),
            }
        }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// See [`Error::io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| Error::io("write", &self.target, &error))
    }

    /// Makes the file take its target's place, on disk too.
    ///
    /// # Errors
    /// See [`Error::io`].
    pub fn commit(mut self) -> Result<(), Error> {
        let io = |error| Error::io("write", &self.target, &error);
        self.file.sync_all().map_err(io)?;
        fs::rename(&self.temporary, &self.target).map_err(io)?;
        self.committed = true;
        // The rename itself lasts only once its directory is on disk.
        let directory = directory(&self.target);
        File::open(directory).and_then(|it| it.sync_all()).map_err(|error| Error::io("write", directory, &error))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn directory(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
