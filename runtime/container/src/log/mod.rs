//! The log of a container: docker's json-file format, written by the monitor and read by `logs`.
//!
//! A log is a folder's file `<id>-json.log`; older ones are beside it as `.1`, `.2` and so on, the youngest first. Each file
//! also carries its number in the row of all files that the log ever had (an extended attribute, so that the bytes stay
//! docker's): a reader that follows knows by it where it is, whatever was renamed meanwhile.

mod encode;
mod error;
mod files;
mod options;
mod reader;
mod record;
mod times;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use options::{LogOptions, TagFacts};
pub use reader::{End, LogReader, Query, Tail};
pub use record::{Format, Record};
pub use times::parse_time;
pub use writer::Log;

/// Docker's longest record: a longer line is several records, all but the last without a line's end.
pub const LINE_LIMIT: usize = 16 * 1024;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
