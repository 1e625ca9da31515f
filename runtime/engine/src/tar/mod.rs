//! Reading tar archives strictly: ustar, v7, GNU and PAX, with sparse files and extended attributes; and writing them.
//!
//! Several programs read the same layer: the one that scans it, the one that signs it, the one that runs it. Where they
//! see different files, one of them is deceived. So this reader accepts an archive only where GNU tar and Go's
//! `archive/tar` (docker, containerd, podman) agree on which bytes belong to which name; everything ambiguous is an
//! error. Names are bytes. What becomes of the entries is left to [`crate::unpack`].

mod header;
mod number;
mod pax;
mod reader;
mod sparse;
mod writer;

use std::io;

pub use reader::Archive;
pub use writer::Writer;
pub(crate) use writer::takes_xattr;

/// Size of a header and unit of padding.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file, sparse or not.
    File,
    /// Another name of an entry that came before: [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    SymbolicLink,
    /// A character device: [`Entry::device`].
    CharacterDevice,
    /// A block device: [`Entry::device`].
    BlockDevice,
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
}

/// A point in time; nanoseconds count upwards from the second also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after the second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name with its namespace: `security.capability`.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// One entry. Meant to be used again for the next one, so that reading does not allocate for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as the archive has it, never empty, without NUL; may be absolute, hold `./`, `..` and a slash at the end.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Where a hard or symbolic link leads, else empty.
    pub link: Vec<u8>,
    /// Size of the file in bytes, holes included; 0 for everything but files.
    pub size: u64,
    /// Permissions with set-id and sticky bits: at most 0o7777.
    pub mode: u32,
    /// Owner; never 4294967295, which means "unchanged" to the kernel.
    pub uid: u32,
    /// Group; never 4294967295.
    pub gid: u32,
    /// When the content was last changed.
    pub modified: Time,
    /// When the content was last read, if the archive tells.
    pub accessed: Option<Time>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, each name once.
    pub xattrs: Vec<Xattr>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            path: Vec::new(),
            kind: EntryKind::File,
            link: Vec::new(),
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            modified: Time::default(),
            accessed: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// Bounds on what an archive makes its reader keep or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarLimits {
    /// Bytes of one PAX header, long name or sparse map.
    pub header_bytes: u64,
    /// Bytes of the whole archive, padding and what follows the end included.
    pub bytes: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be read or are not what their digest says.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The archive ends inside a header or a file.
    #[error("the tar archive ends at byte {offset}, in the middle of an entry: it was cut off")]
    Truncated {
        /// Where the bytes end.
        offset: u64,
    },
    /// A header that is wrong or that readers would understand differently.
    #[error("the tar header at byte {offset} is refused: {problem}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// The archive is longer than allowed.
    #[error("the tar archive has more than {limit} bytes: raise `unpack.bytes` if you trust it")]
    TooLong {
        /// The limit in bytes.
        limit: u64,
    },
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The checksum does not fit.
    #[error("its checksum is wrong")]
    Checksum,
    /// A single block of zeros that is neither an end nor a header.
    #[error("a block of zeros is not followed by a second one")]
    LoneZeroBlock,
    /// A number that is malformed, negative where it may not be, or too large.
    #[error("the number in its field `{0}` is malformed or out of range")]
    Number(&'static str),
    /// A type of entry that no container engine unpacks.
    #[error("entries of type `{}` are unknown", .0.escape_ascii())]
    UnknownType(u8),
    /// No name at all.
    #[error("it has no name")]
    NoName,
    /// A NUL inside a name.
    #[error("a name or attribute has a NUL inside")]
    NulInName,
    /// A link that leads nowhere.
    #[error("it is a link without a target")]
    NoTarget,
    /// Data after an entry that has none.
    #[error("only files have data")]
    UnexpectedData,
    /// A file whose name ends in a slash: a folder to some, a file to others.
    #[error("the name of a file ends in a slash")]
    FileWithSlash,
    /// Size in the header and in the PAX records.
    #[error("header and PAX records disagree about the size")]
    SizeDisagrees,
    /// Long name and PAX path.
    #[error("GNU long name and PAX records disagree about a name")]
    NameDisagrees,
    /// A long name without an end.
    #[error("a GNU long name does not end in NUL")]
    LongNameEnd,
    /// The old name field means different things to different readers.
    #[error("its prefix field is ambiguous")]
    AmbiguousPrefix,
    /// Extended headers that nothing follows, or two of a kind.
    #[error("extended headers are not followed by the entry that they describe")]
    StrayExtension,
    /// A PAX header whose records are malformed.
    #[error("a PAX record is malformed")]
    PaxRecord,
    /// A PAX record that readers understand differently.
    #[error("the value of the PAX record `{0}` is malformed or ambiguous")]
    PaxValue(&'static str),
    /// A global header that would change names or sizes.
    #[error("a global PAX header sets `{0}`, which readers understand differently")]
    GlobalRecord(&'static str),
    /// A sparse map that is malformed or does not fit the data.
    #[error("the map of a sparse file is malformed or does not fit its data")]
    SparseMap,
    /// A header larger than allowed.
    #[error("an extended header or sparse map is larger than {0} bytes; raise `unpack.pax-bytes` if you trust it")]
    HeaderTooLarge(u64),
}
