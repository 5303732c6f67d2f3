//! Who owns a failure: the request, the machine, or the person who pressed Ctrl-C.

use std::fmt;
use std::io;
use std::path::Path;

/// A failure that is not a candidate's; a candidate that misbehaves is an outcome, never an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is impossible; the message names the limit, the value and what to type instead.
    User(String),
    /// The kernel or the machine could not do it.
    Machine(String),
    /// The machine could do it, but is too busy now.
    Busy(String),
    /// Cancelled from outside.
    Interrupted,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

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
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::User(message) | Error::Machine(message) | Error::Busy(message) => formatter.write_str(message),
            Error::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_as_it_was_written() {
        assert_eq!(Error::User("cores: 3 of 2".into()).to_string(), "cores: 3 of 2");
        assert_eq!(Error::Machine("no /proc".into()).to_string(), "no /proc");
        assert_eq!(Error::Interrupted.to_string(), "interrupted");
    }
}
