//! Going through an archive: blocks, extended headers, data.

use std::io::{self, Read};

use super::header::{Header, LARGEST_OCTAL_SIZE, sparse_continuation};
use super::pax::{Extended, Sparse, check_global};
use super::sparse::{self, Extent};
use super::{BLOCK, Entry, EntryKind, Problem, TarError, TarLimits};

/// Enough that most files come in one piece, and little enough to stay in the cache.
const BUFFER: usize = 256 * 1024;

/// A tar archive that is read from its beginning to its end.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    limits: TarLimits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes that were taken out of the buffer.
    position: u64,
    /// Stored bytes of the current entry that were not taken yet.
    remaining: u64,
    padding: u64,
    /// The parts of the current file that are stored, last one first.
    extents: Vec<Extent>,
    ended: bool,
}

/// What extended headers said about the entry that follows them.
#[derive(Default)]
struct Pending {
    pax: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: Read> Archive<R> {
    /// An archive of which nothing was read yet.
    pub fn new(input: R, limits: TarLimits) -> Self {
        Archive {
            input,
            limits,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            position: 0,
            remaining: 0,
            padding: 0,
            extents: Vec::new(),
            ended: false,
        }
    }

    /// How many bytes of the archive were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on to the next entry. `false` at the end: everything was read then, also what follows the end marker.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool, TarError> {
        self.skip_data()?;
        let mut pending = Pending::default();
        loop {
            let offset = self.position;
            let refuse = |problem| TarError::Header { offset, problem };
            let Some(block) = self.header_block()? else {
                return if pending.is_empty() { Ok(false) } else { Err(refuse(Problem::StrayExtension)) };
            };
            let header = Header::parse(&block).map_err(refuse)?;
            let size = header.size().map_err(refuse)?;
            // Go checks all fields of extended headers too.
            header.fill(entry).map_err(refuse)?;
            match header.type_flag() {
                b'x' if pending.pax.is_none() => {
                    let bytes = self.special(size, offset)?;
                    pending.pax = Some(Extended::parse(&bytes).map_err(refuse)?);
                }
                // Go forgets what came before a global header, GNU tar does not.
                b'g' if pending.is_empty() => {
                    let bytes = self.special(size, offset)?;
                    check_global(&bytes).map_err(refuse)?;
                }
                b'L' if pending.long_name.is_none() => {
                    pending.long_name = Some(self.long(size, offset)?);
                }
                b'K' if pending.long_link.is_none() => {
                    pending.long_link = Some(self.long(size, offset)?);
                }
                b'x' | b'g' | b'L' | b'K' => return Err(refuse(Problem::StrayExtension)),
                _ => {
                    self.entry(&header, size, pending, entry, offset)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The next piece of the current file's data and where in the file it belongs; `None` when there is no more.
    pub fn data(&mut self) -> Result<Option<(u64, &[u8])>, TarError> {
        while self.extents.last().is_some_and(|extent| extent.length == 0) {
            self.extents.pop();
        }
        if self.extents.is_empty() {
            return Ok(None);
        }
        if self.start == self.end && !self.fill()? {
            return Err(TarError::Truncated { offset: self.position });
        }
        let Some(extent) = self.extents.last_mut() else { return Ok(None) };
        let available = self.end - self.start;
        let count = usize::try_from(extent.length).map_or(available, |length| length.min(available));
        let offset = extent.offset;
        extent.offset += count as u64;
        extent.length -= count as u64;
        self.remaining -= count as u64;
        self.position += count as u64;
        let start = self.start;
        self.start += count;
        Ok(Some((offset, &self.buffer[start..start + count])))
    }

    /// Puts together what header and extended headers say.
    fn entry(
        &mut self,
        header: &Header<'_>,
        size: u64,
        mut pending: Pending,
        entry: &mut Entry,
        offset: u64,
    ) -> Result<(), TarError> {
        let refuse = |problem| TarError::Header { offset, problem };
        let mut pax = pending.pax.take().unwrap_or_default();
        let sparse = pax.take_sparse().map_err(refuse)?;
        // GNU tar lets the PAX record win, Go the long name.
        replace(&mut entry.path, pending.long_name, pax.path.take()).map_err(refuse)?;
        let is_link = matches!(header.type_flag(), b'1' | b'2');
        replace(&mut entry.link, pending.long_link, pax.link.take()).map_err(refuse)?;
        if entry.path.is_empty() {
            return Err(refuse(Problem::NoName));
        }
        entry.kind = header.kind(&entry.path).map_err(refuse)?;
        if !is_link {
            entry.link.clear();
        } else if entry.link.is_empty() {
            return Err(refuse(Problem::NoTarget));
        }
        entry.uid = pax.uid.unwrap_or(entry.uid);
        entry.gid = pax.gid.unwrap_or(entry.gid);
        entry.modified = pax.modified.unwrap_or(entry.modified);
        entry.accessed = pax.accessed;
        entry.xattrs.append(&mut pax.xattrs);

        let stored = stored_size(header, entry.kind, size, pax.size).map_err(refuse)?;
        self.remaining = stored;
        self.padding = padding(stored);
        entry.size = stored;
        self.extents.clear();
        match sparse {
            Some(_) if !header.is_posix() || !matches!(header.type_flag(), 0 | b'0') => {
                return Err(refuse(Problem::SparseMap));
            }
            Some(Sparse::Mapped { size, map }) => {
                entry.size = size;
                self.extents = map;
            }
            Some(Sparse::Leading { size }) => {
                entry.size = size;
                self.leading_map(offset)?;
            }
            None if header.type_flag() == b'S' => entry.size = self.old_sparse_map(header, offset)?,
            None => self.extents.push(Extent { offset: 0, length: stored }),
        }
        sparse::check(&self.extents, entry.size, self.remaining).map_err(refuse)?;
        self.extents.reverse();
        Ok(())
    }

    /// The map of a sparse file of format 1.0, which is a part of its stored data.
    fn leading_map(&mut self, offset: u64) -> Result<(), TarError> {
        let refuse = |problem| TarError::Header { offset, problem };
        let mut lines = sparse::Lines::default();
        let mut map = Vec::new();
        loop {
            self.remaining = self.remaining.checked_sub(BLOCK as u64).ok_or(refuse(Problem::SparseMap))?;
            let block = self.block()?.ok_or(TarError::Truncated { offset: self.position })?;
            if lines.take(&block, &mut map).map_err(refuse)? {
                break;
            }
            self.check_map(&map, offset)?;
        }
        self.extents = map;
        Ok(())
    }

    /// The map of an old GNU sparse file, which goes on in blocks after the header; gives the size with holes.
    fn old_sparse_map(&mut self, header: &Header<'_>, offset: u64) -> Result<u64, TarError> {
        let refuse = |problem| TarError::Header { offset, problem };
        let mut map = Vec::new();
        let (mut extended, size) = header.sparse(&mut map).map_err(refuse)?;
        while extended {
            let block = self.block()?.ok_or(TarError::Truncated { offset: self.position })?;
            extended = sparse_continuation(&block, &mut map).map_err(refuse)?;
            self.check_map(&map, offset)?;
        }
        self.extents = map;
        Ok(size)
    }

    fn check_map(&self, map: &[Extent], offset: u64) -> Result<(), TarError> {
        let limit = self.limits.header_bytes;
        let bytes = size_of_val(map) as u64;
        if bytes > limit { Err(TarError::Header { offset, problem: Problem::HeaderTooLarge(limit) }) } else { Ok(()) }
    }

    /// A long name or link of GNU tar.
    fn long(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, TarError> {
        let refuse = |problem| TarError::Header { offset, problem };
        let mut name = self.special_data(size, offset)?;
        // GNU tar reads on to the next NUL, whatever the size says.
        let is_ended = name.ends_with(b"\0") || self.padding > 0 && self.peek()? == Some(0);
        if !is_ended {
            return Err(refuse(Problem::LongNameEnd));
        }
        self.skip_data()?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        if name[length..].iter().any(|byte| *byte != 0) {
            return Err(refuse(Problem::NulInName));
        }
        name.truncate(length);
        if name.is_empty() { Err(refuse(Problem::NoName)) } else { Ok(name) }
    }

    /// The data of an extended header.
    fn special(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, TarError> {
        let bytes = self.special_data(size, offset)?;
        self.skip_data()?;
        Ok(bytes)
    }

    fn special_data(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, TarError> {
        if size > self.limits.header_bytes {
            let problem = Problem::HeaderTooLarge(self.limits.header_bytes);
            return Err(TarError::Header { offset, problem });
        }
        let mut bytes = Vec::new();
        self.remaining = size;
        self.padding = padding(size);
        self.extents.clear();
        self.extents.push(Extent { offset: 0, length: size });
        while let Some((_, piece)) = self.data()? {
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }

    /// Leaves the current entry behind.
    fn skip_data(&mut self) -> Result<(), TarError> {
        while self.remaining > 0 {
            let skipped = self.skip(self.remaining)?;
            if skipped == 0 {
                return Err(TarError::Truncated { offset: self.position });
            }
            self.remaining -= skipped;
        }
        // The padding of the last file may be missing: some programs leave it out, and no byte of a file is in it.
        while self.padding > 0 {
            let skipped = self.skip(self.padding)?;
            self.padding = if skipped == 0 { 0 } else { self.padding - skipped };
        }
        self.extents.clear();
        Ok(())
    }

    /// The next byte, which stays where it is.
    fn peek(&mut self) -> Result<Option<u8>, TarError> {
        if self.start == self.end && !self.fill()? {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.start]))
    }

    fn skip(&mut self, count: u64) -> Result<u64, TarError> {
        if self.start == self.end && !self.fill()? {
            return Ok(0);
        }
        let available = self.end - self.start;
        let count = usize::try_from(count).map_or(available, |count| count.min(available));
        self.start += count;
        self.position += count as u64;
        Ok(count as u64)
    }

    /// The next header, or `None` at the end of the archive, after everything that follows it was read.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let offset = self.position;
        match self.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => Ok(Some(block)),
            Some(_) => {
                // Two blocks of zeros are the end, or one and the end of the bytes.
                if self.block()?.is_some_and(|second| second.iter().any(|byte| *byte != 0)) {
                    return Err(TarError::Header { offset, problem: Problem::LoneZeroBlock });
                }
                while self.skip(u64::MAX)? > 0 {}
                self.ended = true;
                Ok(None)
            }
            None => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// The next block, or `None` where the bytes end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        while self.end - self.start < BLOCK {
            if !self.fill()? {
                let rest = self.end - self.start;
                return if rest == 0 {
                    Ok(None)
                } else {
                    Err(TarError::Truncated { offset: self.position + rest as u64 })
                };
            }
        }
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
        self.start += BLOCK;
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    /// Reads more; `false` at the end of the bytes.
    fn fill(&mut self) -> Result<bool, TarError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.end += count;
        if self.position + self.end as u64 > self.limits.bytes {
            return Err(TarError::TooLong { limit: self.limits.bytes });
        }
        Ok(count > 0)
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// How many bytes follow the header.
fn stored_size(header: &Header<'_>, kind: EntryKind, size: u64, pax: Option<u64>) -> Result<u64, Problem> {
    match (kind, pax) {
        // Writers put anything into the field of a size that does not fit, and only then.
        (EntryKind::File, Some(pax)) if pax != size && pax <= LARGEST_OCTAL_SIZE => Err(Problem::SizeDisagrees),
        (EntryKind::File, Some(_)) if header.type_flag() == b'S' => Err(Problem::SizeDisagrees),
        (EntryKind::File, pax) => {
            let size = pax.unwrap_or(size);
            if size > i64::MAX as u64 - BLOCK as u64 { Err(Problem::Number("size")) } else { Ok(size) }
        }
        // Old programs told the size of the file here; GNU tar and Go know that no data follows.
        (EntryKind::HardLink, None | Some(0)) => Ok(0),
        // Here GNU tar skips data and Go does not.
        (_, pax) => {
            if size == 0 && pax.is_none_or(|pax| pax == 0) {
                Ok(0)
            } else {
                Err(Problem::UnexpectedData)
            }
        }
    }
}

/// Takes the name of an extended header, if there is one; two must be the same.
fn replace(name: &mut Vec<u8>, long: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<(), Problem> {
    match (long, pax) {
        (Some(long), Some(pax)) if long != pax => Err(Problem::NameDisagrees),
        (Some(long), _) | (None, Some(long)) => {
            *name = long;
            Ok(())
        }
        (None, None) => Ok(()),
    }
}
