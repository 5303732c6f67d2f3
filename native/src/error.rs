//! Who owns a failure: the user or the machine. (A candidate's own failure is a result, never an error.)

use std::fmt;
use std::io;
use std::path::Path;

/// Why a call could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Something impossible was asked for; the message names the limit, the value and what to type.
    User(String),
    /// The kernel or the machine could not do what it should.
    Machine(String),
    /// The work saw its cancel flag and stopped.
    Interrupted,
}

impl Error {
    /// An I/O failure at `path` while trying to `action`: paths that cannot be used are the user's,
    /// everything else (a full disk, a dying one) is the machine's.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        let message = format!("cannot {action} {}: {error}", path.display());
        // InvalidInput is std's own refusal of a path with a NUL byte.
        match error.kind() {
            NotFound | PermissionDenied | IsADirectory | NotADirectory | io::ErrorKind::InvalidInput => {
                Self::User(message)
            }
            _ => Self::Machine(message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(message) | Self::Machine(message) => f.write_str(message),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_the_users_and_a_full_disk_the_machines() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(Error::io("read", Path::new("x"), &missing), Error::User(m) if m.contains("cannot read x")));
        assert!(matches!(Error::io("write", Path::new("x"), &full), Error::Machine(_)));
    }
}
