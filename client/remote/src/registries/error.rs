//! What can be wrong with a configuration of registries.

use std::path::{Path, PathBuf};

/// Why a configuration of registries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// A file does not follow its grammar, or has an unknown key where none may be.
    #[error("`{path}` line {line}: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value that cannot be: an address that is none, a header that is none.
    #[error("`{origin}`: `{key}` has the value `{value}`, which is not {expected}")]
    Value {
        /// The file or the variable.
        origin: String,
        /// Where in it.
        key: String,
        /// What stands there.
        value: String,
        /// What could.
        expected: &'static str,
    },
    /// registries.conf forbids it.
    #[error("`{name}` is blocked by `{path}`: ask whoever keeps that file", path = path.display())]
    Blocked {
        /// Registry or repository.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl RegistriesError {
    /// An error of the TOML reader. Its own text would quote the line, which may have a secret.
    pub(super) fn toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
        RegistriesError::Syntax { path: path.to_owned(), line, reason: error.message().to_owned() }
    }

    pub(super) fn value(origin: impl ToString, key: impl ToString, value: &str, expected: &'static str) -> Self {
        let value = without_userinfo(value);
        RegistriesError::Value { origin: origin.to_string(), key: key.to_string(), value, expected }
    }
}

/// An address as messages show it: what stands before an `@` may be a password.
fn without_userinfo(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, rest)) if scheme.is_empty() => format!("…@{rest}"),
        Some((_, rest)) => format!("{scheme}://…@{rest}"),
        None => text.to_owned(),
    }
}

/// The text of a file, or `None` where there is no such file, or none that we may read (root's own).
pub(super) fn text_of(path: &Path) -> Result<Option<String>, RegistriesError> {
    use std::io::ErrorKind;
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
