//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;

/// What can go wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log or its folder could not be used.
    #[error("the log `{}` cannot be used: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Docker's words.
    #[error("unknown log opt '{0}' for json-file log driver")]
    UnknownOption(String),
    /// Docker's words, as Go says them.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// Docker's words.
    #[error("max-size must be a positive number")]
    SizeNotPositive,
    /// Go's words, which docker passes on.
    #[error("strconv.Atoi: parsing \"{0}\": invalid syntax")]
    Number(String),
    /// Docker's words.
    #[error("max-file cannot be less than 1")]
    TooFewFiles,
    /// Go's words, which docker passes on.
    #[error("strconv.ParseBool: parsing \"{0}\": invalid syntax")]
    Truth(String),
    /// An option of docker that this engine does not have.
    #[error("the log opt `{option}` is not supported by cove: {advice}")]
    NotSupported {
        /// The option.
        option: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// A field of a tag that is not known.
    #[error(
        "the log opt `tag={0}` is not supported: use {{{{.ID}}}}, {{{{.FullID}}}}, {{{{.Name}}}}, {{{{.ImageName}}}}, {{{{.ImageID}}}}, {{{{.ImageFullID}}}}, {{{{.DaemonName}}}} or text"
    )]
    Tag(String),
    /// A time that has none of docker's forms.
    #[error("failed to parse value as time or duration: \"{0}\"; use 10m, 2026-01-31T15:04:05Z or seconds since 1970")]
    Time(String),
}
