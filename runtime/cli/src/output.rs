//! Standard output and standard error: results on the one, everything else on the other.

use std::io::Write;

/// Prints a line of a result. Nobody may be reading any more.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line that is no result.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
