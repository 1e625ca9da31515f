//! Writing tar archives: ustar headers, and PAX records for what does not fit into them.
//!
//! The same entries are the same bytes. Numbers, names and times are written in the way that old readers know as long as
//! they fit. Names stay the bytes that they are: where one is too long for a header it goes into a PAX record as it is.

use std::io::{self, Write};

use super::sparse::Extent;
use super::{BLOCK, Entry, EntryKind, Time};

/// The largest number that seven octal digits can tell.
const LARGEST_ID: u32 = 0o777_7777;
/// The largest time and size that eleven octal digits can tell.
const LARGEST_NUMBER: u64 = 0o77_777_777_777;
/// Bytes of a name in a header.
const NAME: usize = 100;
/// The name of headers that describe the entry after them: readers that know them look at their content only.
const PAX_NAME: &[u8] = b"PaxHeaders/entry";
/// What a sparse file is called for readers that do not know of any.
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/file";

/// An archive that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Bytes of the current file that are still to come, and those that fill its last block.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// An archive without anything in it yet.
    pub fn new(out: W) -> Self {
        Writer { out, left: 0, padding: 0 }
    }

    /// Begins an entry. A file's data must follow: as many bytes as it is large.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let stored = if entry.kind == EntryKind::File { entry.size } else { 0 };
        self.write(entry, stored, &[])
    }

    /// Begins a file of which only these parts are stored: offset and length of each. They come in order, do not overlap,
    /// and are whole blocks but for the last one. Their data must follow.
    pub fn sparse(&mut self, entry: &Entry, parts: &[(u64, u64)]) -> io::Result<()> {
        let parts: Vec<Extent> =
            parts.iter().map(|(offset, length)| Extent { offset: *offset, length: *length }).collect();
        let mut map = format!("{}\n", parts.len());
        for part in &parts {
            map.push_str(&format!("{}\n{}\n", part.offset, part.length));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let stored = map.len() as u64 + parts.iter().map(|part| part.length).sum::<u64>();
        let mut records = Vec::new();
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", &entry.path);
        record(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
        self.write(entry, stored, &records)?;
        self.data(&map)
    }

    /// The next bytes of the current file.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64;
        self.left =
            self.left.checked_sub(count).ok_or_else(|| io::Error::other("a file has more data than announced"))?;
        self.out.write_all(bytes)?;
        if self.left == 0 { self.pad() } else { Ok(()) }
    }

    /// The same for so many zeros.
    pub fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while count > 0 {
            let piece = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
            self.data(&ZEROS[..piece])?;
            count -= piece as u64;
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.complete()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding])
    }

    fn complete(&self) -> io::Result<()> {
        if self.left > 0 { Err(io::Error::other("a file has less data than announced")) } else { Ok(()) }
    }

    fn write(&mut self, entry: &Entry, stored: u64, more: &[u8]) -> io::Result<()> {
        self.complete()?;
        if entry.path.contains(&0) || entry.path.is_empty() || entry.link.contains(&0) {
            return Err(io::Error::other("a name is empty or has a NUL inside"));
        }
        let mut records = Vec::new();
        if !more.is_empty() {
            records.extend_from_slice(more);
        } else if entry.path.len() > NAME {
            record(&mut records, b"path", &entry.path);
        }
        if entry.link.len() > NAME {
            record(&mut records, b"linkpath", &entry.link);
        }
        if stored > LARGEST_NUMBER {
            record(&mut records, b"size", stored.to_string().as_bytes());
        }
        for (name, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if id > LARGEST_ID {
                record(&mut records, name, id.to_string().as_bytes());
            }
        }
        let Time { seconds, nanoseconds } = entry.modified;
        if nanoseconds != 0 || u64::try_from(seconds).map_or(true, |seconds| seconds > LARGEST_NUMBER) {
            record(&mut records, b"mtime", decimal(entry.modified).as_bytes());
        }
        let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
        xattrs.sort_by(|one, other| one.name.cmp(&other.name));
        for xattr in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", xattr.name.as_slice()].concat(), &xattr.value);
        }
        if !records.is_empty() {
            let header = Entry { path: PAX_NAME.to_vec(), mode: 0o644, ..Entry::default() };
            self.out.write_all(&block(&header, b'x', records.len() as u64))?;
            self.out.write_all(&records)?;
            self.out.write_all(&[0; BLOCK][..padding(records.len() as u64)])?;
        }
        let kind = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::SymbolicLink => b'2',
            EntryKind::CharacterDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Folder => b'5',
            EntryKind::Fifo => b'6',
        };
        let header = if more.is_empty() {
            block(entry, kind, stored)
        } else {
            block(&Entry { path: SPARSE_NAME.to_vec(), xattrs: Vec::new(), ..entry.clone() }, kind, stored)
        };
        self.out.write_all(&header)?;
        self.left = stored;
        self.padding = padding(stored);
        Ok(())
    }
}

/// Whether an attribute of this name can be told in PAX records: the name ends at the first `=` to all readers.
pub(crate) fn takes_xattr(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=')
}

fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK as u64) - length) as usize
}

/// A header block. What does not fit is cut off or 0: a PAX record tells it.
fn block(entry: &Entry, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut name = &entry.path[..entry.path.len().min(NAME)];
    if name.len() < entry.path.len() && kind != b'5' {
        // No reader shall take the beginning of a name for that of a folder.
        while let Some(rest) = name.strip_suffix(b"/") {
            name = rest;
        }
    }
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], entry.mode.into());
    for (at, id) in [(108, entry.uid), (116, entry.gid)] {
        octal(&mut block[at..at + 8], if id > LARGEST_ID { 0 } else { id.into() });
    }
    octal(&mut block[124..136], if size > LARGEST_NUMBER { 0 } else { size });
    let seconds = u64::try_from(entry.modified.seconds).ok().filter(|seconds| *seconds <= LARGEST_NUMBER);
    octal(&mut block[136..148], seconds.unwrap_or_default());
    block[148..156].fill(b' ');
    block[156] = kind;
    let link = &entry.link[..entry.link.len().min(NAME)];
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], entry.device.0.into());
    octal(&mut block[337..345], entry.device.1.into());
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// Digits and a NUL.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let text = format!("{number:0width$o}");
    field[..width].copy_from_slice(&text.as_bytes()[text.len() - width..]);
    field[width] = 0;
}

/// Appends `LENGTH KEYWORD=VALUE\n`, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with as many decimals as needed. Before 1970 they count backwards from the next second.
fn decimal(time: Time) -> String {
    let Time { seconds, nanoseconds } = time;
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let (sign, whole, part) = match seconds {
        0.. => ("", seconds.unsigned_abs(), nanoseconds),
        _ => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    };
    let text = format!("{sign}{whole}.{part:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Archive, TarLimits, Xattr};
    use super::*;

    fn read(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut archive = Archive::new(archive, TarLimits { header_bytes: 1 << 20, bytes: 1 << 40 });
        let (mut entry, mut entries) = (Entry::default(), Vec::new());
        while archive.next(&mut entry).unwrap() {
            let mut data = vec![0; entry.size as usize];
            while let Some((offset, piece)) = archive.data().unwrap() {
                data[offset as usize..][..piece.len()].copy_from_slice(piece);
            }
            entries.push((entry.clone(), data));
        }
        entries
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = |length| vec![b'n'; length];
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        let xattrs = vec![
            Xattr { name: b"security.capability".to_vec(), value: vec![1, 0, 0, 2, b'\n', b'=', 0] },
            Xattr { name: b"user.\xff".to_vec(), value: Vec::new() },
        ];
        let file = Entry { path: b"a/b\n\xff".to_vec(), mode: 0o6755, size: 700, ..Entry::default() };
        let entries = [
            Entry { path: b"a/".to_vec(), kind: EntryKind::Folder, mode: 0o1777, ..Entry::default() },
            Entry { modified: time(1_700_000_000, 123_456_000), uid: 3, gid: 4, xattrs, ..file.clone() },
            Entry { path: long(100), modified: time(-1, 500_000_000), ..file.clone() },
            Entry { path: long(101), modified: time(-2, 0), uid: 2_097_152, gid: 4_294_967_294, ..file.clone() },
            Entry { path: [long(99), b"/x".to_vec()].concat(), modified: time(1 << 40, 1), ..file.clone() },
            Entry { path: [long(300), b"/".to_vec()].concat(), kind: EntryKind::Folder, ..Entry::default() },
            Entry {
                path: b"l".to_vec(),
                kind: EntryKind::SymbolicLink,
                link: long(2000),
                mode: 0o777,
                ..Entry::default()
            },
            Entry { path: b"h".to_vec(), kind: EntryKind::HardLink, link: b"a/b".to_vec(), ..Entry::default() },
            Entry {
                path: b"c".to_vec(),
                kind: EntryKind::CharacterDevice,
                device: (4095, 1_048_575),
                ..Entry::default()
            },
            Entry { path: b"p".to_vec(), kind: EntryKind::Fifo, ..Entry::default() },
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            if entry.size > 0 {
                writer.data(&[b'd'; 500]).unwrap();
                writer.zeros(200).unwrap();
            }
        }
        let sparse = Entry { size: 100_000, ..file };
        writer.sparse(&sparse, &[(4096, 1024), (90_112, 10)]).unwrap();
        writer.data(&[b's'; 1034]).unwrap();
        let found = read(&writer.finish().unwrap());
        for (entry, (found, data)) in entries.iter().zip(&found) {
            assert_eq!(entry, found);
            assert!(data.is_empty() || data[..500] == [b'd'; 500] && data[500..] == [0; 200]);
        }
        let (entry, data) = found.last().unwrap();
        assert_eq!(*entry, sparse);
        assert_eq!(data.iter().filter(|byte| **byte == b's').count(), 1034);
        assert!(data[4096..5120].iter().chain(&data[90_112..90_122]).all(|byte| *byte == b's'));
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; length]);
            let text = String::from_utf8(records.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), records.len());
        }
    }

    #[test]
    fn too_much_and_too_little_data_are_refused() {
        let file = Entry { path: b"f".to_vec(), size: 3, ..Entry::default() };
        let mut writer = Writer::new(Vec::new());
        writer.entry(&file).unwrap();
        assert!(writer.data(b"four").is_err());
        assert!(writer.entry(&file).is_err());
        assert!(writer.finish().is_err());
    }
}
