//! Records of PAX extended headers: `LENGTH KEYWORD=VALUE\n`.
//!
//! Read as Go's archive/tar and GNU tar both do; what they understand differently is refused.

use std::collections::HashSet;

use super::header::owner_in_range;
use super::number::{decimal, time};
use super::sparse::{Extent, parse_list};
use super::{Problem, Time, Xattr};

/// What an extended header says about the entry that follows.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) modified: Option<Time>,
    pub(super) accessed: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    libarchive_xattrs: Vec<Xattr>,
    sparse: SparseRecords,
}

/// The records of all three sparse formats, before it is known which one it is.
#[derive(Debug, Default)]
struct SparseRecords {
    seen: bool,
    major: Option<Vec<u8>>,
    minor: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    /// Format 0.0: offsets and lengths in turn.
    pairs: Vec<Extent>,
    pending: Option<u64>,
    /// Format 0.1.
    list: Option<Vec<u8>>,
}

/// How a sparse file is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sparse {
    /// The map is known from the records: formats 0.0 and 0.1.
    Mapped { size: u64, map: Vec<Extent> },
    /// The map comes before the data: format 1.0.
    Leading { size: u64 },
}

impl Extended {
    /// Reads the records of a header for one entry.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut extended = Extended::default();
        for record in Records(bytes) {
            let (key, value) = record?;
            extended.take(key, value)?;
        }
        if extended.sparse.pending.is_some() {
            return Err(Problem::SparseMap);
        }
        extended.unite_xattrs();
        Ok(extended)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => self.path = Some(name("path", value)?),
            b"linkpath" => self.link = Some(name("linkpath", value)?),
            b"size" => self.size = Some(decimal(value).ok_or(Problem::PaxValue("size"))?),
            // Empty: the header's own value stays.
            b"uid" | b"gid" | b"mtime" | b"atime" if value.is_empty() => {}
            b"uid" => self.uid = Some(owner("uid", value)?),
            b"gid" => self.gid = Some(owner("gid", value)?),
            b"mtime" => self.modified = Some(time(value).ok_or(Problem::PaxValue("mtime"))?),
            b"atime" => self.accessed = Some(time(value).ok_or(Problem::PaxValue("atime"))?),
            // star's own way to store holes, which Go does not know.
            b"SCHILY.realsize" => return Err(Problem::PaxValue("SCHILY.realsize")),
            _ => {
                if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
                    put(&mut self.xattrs, key, value.to_vec())?;
                } else if let Some(key) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = base64(value).ok_or(Problem::PaxValue("LIBARCHIVE.xattr"))?;
                    let key = percent_decoded(key).ok_or(Problem::PaxValue("LIBARCHIVE.xattr"))?;
                    put(&mut self.libarchive_xattrs, &key, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Leaves the last value of each attribute. libarchive writes each one twice; where only its own form is there (with
    /// bytes that others cannot write), it counts.
    fn unite_xattrs(&mut self) {
        let mut all = std::mem::take(&mut self.libarchive_xattrs);
        if all.is_empty() && self.xattrs.len() < 2 {
            return;
        }
        all.append(&mut self.xattrs);
        let mut seen = HashSet::new();
        let mut is_last: Vec<bool> = all.iter().rev().map(|xattr| seen.insert(xattr.name.as_slice())).collect();
        is_last.reverse();
        self.xattrs = all.into_iter().zip(is_last).filter_map(|(xattr, is_last)| is_last.then_some(xattr)).collect();
    }

    /// How the file is stored, if it is sparse; takes the records.
    pub(super) fn take_sparse(&mut self) -> Result<Option<Sparse>, Problem> {
        let sparse = std::mem::take(&mut self.sparse);
        if !sparse.seen {
            return Ok(None);
        }
        // The name of the sparse records stands for the true one, the other is `GNUSparseFile.PID/…`.
        if let Some(name) = sparse.name {
            self.path = Some(name);
        }
        let version = (sparse.major.as_deref(), sparse.minor.as_deref());
        match version {
            (Some(b"1"), Some(b"0")) if sparse.list.is_none() && sparse.pairs.is_empty() => {
                let size = sparse.real_size.ok_or(Problem::SparseMap)?;
                if sparse.size.is_some_and(|other| other != size) {
                    Err(Problem::SparseMap)
                } else {
                    Ok(Some(Sparse::Leading { size }))
                }
            }
            (None, None) | (Some(b"0"), Some(b"0" | b"1")) => {
                let size = sparse.size.ok_or(Problem::SparseMap)?;
                if sparse.real_size.is_some_and(|other| other != size) {
                    return Err(Problem::SparseMap);
                }
                let mut map = sparse.pairs;
                match &sparse.list {
                    Some(list) if map.is_empty() && !list.is_empty() => parse_list(list, &mut map)?,
                    None if !map.is_empty() => {}
                    _ => return Err(Problem::SparseMap),
                }
                if sparse.blocks.is_some_and(|blocks| blocks != map.len() as u64) {
                    return Err(Problem::SparseMap);
                }
                Ok(Some(Sparse::Mapped { size, map }))
            }
            _ => Err(Problem::SparseMap),
        }
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        self.seen = true;
        let number = || decimal(value).ok_or(Problem::SparseMap);
        // Where a record comes twice, GNU tar adds and Go replaces.
        let is_new = match key {
            b"major" => self.major.replace(value.to_vec()).is_none(),
            b"minor" => self.minor.replace(value.to_vec()).is_none(),
            b"name" => self.name.replace(name("GNU.sparse.name", value)?).is_none(),
            b"size" => self.size.replace(number()?).is_none(),
            b"realsize" => self.real_size.replace(number()?).is_none(),
            b"numblocks" => self.blocks.replace(number()?).is_none(),
            // GNU tar makes room for the map when it reads their number, so that must come before; Go ignores it.
            b"map" => self.list.replace(value.to_vec()).is_none() && self.blocks.is_some(),
            b"offset" => self.pending.replace(number()?).is_none() && self.blocks.is_some(),
            b"numbytes" => {
                let offset = self.pending.take().ok_or(Problem::SparseMap)?;
                self.pairs.push(Extent { offset, length: number()? });
                true
            }
            _ => false,
        };
        if is_new { Ok(()) } else { Err(Problem::SparseMap) }
    }
}

/// A global header: docker ignores it, GNU tar applies it. So nothing may stand in it that decides which bytes belong
/// to which name; owners and times are ignored, as docker does.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), Problem> {
    for record in Records(bytes) {
        match record?.0 {
            b"path" => return Err(Problem::GlobalRecord("path")),
            b"linkpath" => return Err(Problem::GlobalRecord("linkpath")),
            b"size" => return Err(Problem::GlobalRecord("size")),
            key if key.starts_with(b"GNU.sparse.") => return Err(Problem::GlobalRecord("GNU.sparse")),
            _ => {}
        }
    }
    Ok(())
}

struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or(Problem::PaxRecord))
    }
}

/// Keyword, value and what follows the record.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length < space + 2 || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    // GNU tar skips blanks before the keyword, Go takes them for a part of it.
    let plain = !key.is_empty() && !key.contains(&0) && !key.starts_with(b" ") && !key.starts_with(b"\t");
    plain.then_some((key, value, rest))
}

fn name(field: &'static str, value: &[u8]) -> Result<Vec<u8>, Problem> {
    if value.contains(&0) {
        return Err(Problem::NulInName);
    }
    // An empty one is no name to Go and an empty name to GNU tar.
    if value.is_empty() { Err(Problem::PaxValue(field)) } else { Ok(value.to_vec()) }
}

fn owner(field: &'static str, value: &[u8]) -> Result<u32, Problem> {
    decimal(value).and_then(owner_in_range).ok_or(Problem::PaxValue(field))
}

fn put(xattrs: &mut Vec<Xattr>, name: &[u8], value: Vec<u8>) -> Result<(), Problem> {
    if name.is_empty() || name.contains(&0) {
        return Err(Problem::NulInName);
    }
    xattrs.push(Xattr { name: name.to_vec(), value });
    Ok(())
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// libarchive writes base64 without padding; others may pad.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 == 1 {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    Some(decoded)
}
