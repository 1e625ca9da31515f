//! One header block: checksum, format, fields. What extended headers add is put together in [`super::reader`].

use super::number::{number, unsigned};
use super::sparse::Extent;
use super::{BLOCK, Entry, EntryKind, Problem, Time};

/// The largest size that eleven octal digits can tell: from here on PAX records may contradict the header.
pub(super) const LARGEST_OCTAL_SIZE: u64 = 0o77_777_777_777;

/// The dialect of a header, told by its magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Gnu,
}

/// A header whose checksum is right.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    format: Format,
}

impl<'a> Header<'a> {
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, Problem> {
        let expected = number(&block[148..156]).ok_or(Problem::Checksum)?;
        let (mut unsigned_sum, mut signed_sum) = (8 * i64::from(b' '), 8 * i64::from(b' '));
        for byte in block[..148].iter().chain(&block[156..]) {
            unsigned_sum += i64::from(*byte);
            // Some old programs summed signed characters.
            signed_sum += i64::from(byte.cast_signed());
        }
        if expected != unsigned_sum && expected != signed_sum {
            return Err(Problem::Checksum);
        }
        let format = match &block[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        Ok(Header { block, format })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// Whether GNU tar takes it for the header of a PAX archive: only there it reads sparse maps from PAX records, while Go
    /// reads them anywhere.
    pub(super) fn is_posix(&self) -> bool {
        let is_time = |field: &[u8]| matches!(field[0], b'0'..=b'7') && field[11] == b' ';
        let is_star = self.block[475] == 0 && is_time(&self.block[476..488]) && is_time(&self.block[488..500]);
        self.format == Format::Ustar && !is_star
    }

    /// Bytes of data after the header.
    pub(super) fn size(&self) -> Result<u64, Problem> {
        let field = &self.block[124..136];
        // A field of spaces is 0 to Go and an error to GNU tar.
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) && field.contains(&b' ') {
            return Err(Problem::Number("size"));
        }
        unsigned(field).ok_or(Problem::Number("size"))
    }

    /// What the entry is. `path` is the full name: a slash at its end makes an untyped entry a folder.
    pub(super) fn kind(&self, path: &[u8]) -> Result<EntryKind, Problem> {
        let slash = path.ends_with(b"/");
        match self.type_flag() {
            0 if slash => Ok(EntryKind::Folder),
            // GNU tar makes a folder of it, Go a file.
            b'0' | b'7' | b'S' if slash => Err(Problem::FileWithSlash),
            0 | b'0' | b'7' | b'S' => Ok(EntryKind::File),
            b'1' => Ok(EntryKind::HardLink),
            b'2' => Ok(EntryKind::SymbolicLink),
            b'3' => Ok(EntryKind::CharacterDevice),
            b'4' => Ok(EntryKind::BlockDevice),
            b'5' => Ok(EntryKind::Folder),
            b'6' => Ok(EntryKind::Fifo),
            other => Err(Problem::UnknownType(other)),
        }
    }

    /// Fills in all that the header itself tells, but for kind and size.
    pub(super) fn fill(&self, entry: &mut Entry) -> Result<(), Problem> {
        self.path(&mut entry.path)?;
        entry.link.clear();
        entry.link.extend_from_slice(until_nul(&self.block[157..257]));
        let mode = number(&self.block[100..108]).ok_or(Problem::Number("mode"))?;
        entry.mode = u32::try_from(mode & 0o7777).map_err(|_| Problem::Number("mode"))?;
        entry.uid = owner(&self.block[108..116]).ok_or(Problem::Number("uid"))?;
        entry.gid = owner(&self.block[116..124]).ok_or(Problem::Number("gid"))?;
        let seconds = number(&self.block[136..148]).ok_or(Problem::Number("mtime"))?;
        entry.modified = Time { seconds, nanoseconds: 0 };
        entry.accessed = None;
        entry.device = self.device()?;
        entry.xattrs.clear();
        Ok(())
    }

    fn path(&self, path: &mut Vec<u8>) -> Result<(), Problem> {
        path.clear();
        match self.format {
            Format::V7 => {}
            Format::Ustar => {
                let prefix = until_nul(&self.block[345..500]);
                // star's dialect has a shorter prefix, followed by times: Go stops at 131 bytes, GNU tar does not.
                if &self.block[508..512] == b"tar\0" && prefix.len() > 130 {
                    return Err(Problem::AmbiguousPrefix);
                }
                if !prefix.is_empty() {
                    path.extend_from_slice(prefix);
                    path.push(b'/');
                }
            }
            Format::Gnu => {
                // There are times here. Go takes them for a prefix where they are no numbers, GNU tar never does.
                for field in [345..357, 357..369] {
                    if self.block[field.start] != 0 && number(&self.block[field]).is_none() {
                        return Err(Problem::AmbiguousPrefix);
                    }
                }
            }
        }
        path.extend_from_slice(until_nul(&self.block[..100]));
        Ok(())
    }

    fn device(&self) -> Result<(u32, u32), Problem> {
        if self.format == Format::V7 {
            return Ok((0, 0));
        }
        let part = |field: &[u8], largest: u32| {
            let value = u32::try_from(unsigned(field)?).ok()?;
            (value <= largest).then_some(value)
        };
        // Linux has 12 and 20 bits for them.
        let major = part(&self.block[329..337], 0xfff).ok_or(Problem::Number("devmajor"))?;
        let minor = part(&self.block[337..345], 0xf_ffff).ok_or(Problem::Number("devminor"))?;
        Ok((major, minor))
    }

    /// The beginning of an old GNU sparse map: extents so far, whether more blocks follow, and the size with holes.
    pub(super) fn sparse(&self, map: &mut Vec<Extent>) -> Result<(bool, u64), Problem> {
        if self.format != Format::Gnu {
            return Err(Problem::UnknownType(b'S'));
        }
        let ended = sparse_extents(&self.block[386..482], map)?;
        let size = unsigned(&self.block[483..495]).ok_or(Problem::SparseMap)?;
        let extended = is_extended(self.block[482])?;
        if ended && extended { Err(Problem::SparseMap) } else { Ok((extended, size)) }
    }
}

/// The next block of an old GNU sparse map; tells whether another one follows.
pub(super) fn sparse_continuation(block: &[u8; BLOCK], map: &mut Vec<Extent>) -> Result<bool, Problem> {
    let ended = sparse_extents(&block[..504], map)?;
    let extended = is_extended(block[504])?;
    if ended && extended { Err(Problem::SparseMap) } else { Ok(extended) }
}

/// Go tests for anything but 0, GNU tar too; writers know 0 and 1.
fn is_extended(flag: u8) -> Result<bool, Problem> {
    match flag {
        0 | b'0' => {
            if flag == 0 {
                Ok(false)
            } else {
                Err(Problem::SparseMap)
            }
        }
        1 => Ok(true),
        _ => Err(Problem::SparseMap),
    }
}

fn sparse_extents(fields: &[u8], map: &mut Vec<Extent>) -> Result<bool, Problem> {
    for pair in fields.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        // Go looks at the first byte of the offset for the end, GNU tar at that of the length.
        match (offset[0], length[0]) {
            (0, 0) => return Ok(true),
            (0, _) | (_, 0) => return Err(Problem::SparseMap),
            _ => {}
        }
        let offset = unsigned(offset).ok_or(Problem::SparseMap)?;
        let length = unsigned(length).ok_or(Problem::SparseMap)?;
        map.push(Extent { offset, length });
    }
    Ok(false)
}

/// An owner that can be set: the highest number means "leave unchanged" to the kernel.
pub(super) fn owner_in_range(value: u64) -> Option<u32> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX)
}

fn owner(field: &[u8]) -> Option<u32> {
    unsigned(field).and_then(owner_in_range)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
