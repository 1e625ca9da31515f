//! Takes an archive apart: every file into a folder under a number, by a name that never becomes a path.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

use cove_oci::{Algorithm, Hasher};
use liblzma::stream::Stream;

use super::{Content, Layout, parse};
use crate::Error;
use crate::decompress::{Counted, capped};
use crate::tar::{Archive, Entry, EntryKind, TarLimits};
use crate::unpack::UnpackLimits;

/// What is read of a compressed archive.
type Input<'a> = BufReader<Counted<Box<dyn Read + 'a>>>;

/// Most bytes of memory to decode xz with: twice what its highest level asks for.
const XZ_MEMORY: u64 = 128 << 20;

/// Most entries of an archive: a few for each layer of its images.
const ENTRY_LIMIT: usize = 100_000;
/// Most bytes of an archive, uncompressed.
const BYTE_LIMIT: u64 = 1 << 40;

/// The files of an archive by their names.
pub(super) type Files = HashMap<String, Content>;

/// Reads an archive to its end, compressed with gzip, xz, bzip2, zstd or not at all, into `folder`, which must be
/// empty and belong to nobody else.
pub fn read(archive: impl Read, folder: &Path) -> Result<Layout, Error> {
    let files = take_apart(decompressed(archive)?, folder)?;
    parse::layout(files, folder)
}

/// Undoes the compression that the first bytes tell of, within the limits that layers have.
pub(crate) fn decompressed<'a>(mut archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let limits = UnpackLimits::default();
    // A pipe may give them one by one.
    let mut first = Vec::with_capacity(6);
    archive.by_ref().take(6).read_to_end(&mut first)?;
    let open: fn(Input<'a>) -> std::io::Result<Box<dyn Read + 'a>> = match first.as_slice() {
        [0x1f, 0x8b, ..] => |input| Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => |input| {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
        },
        [b'B', b'Z', b'h', ..] => |input| Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => |input| {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(UnpackLimits::default().zstd_window_log)?;
            Ok(Box::new(decoder))
        },
        _ => |input| Ok(Box::new(input)),
    };
    let whole: Box<dyn Read + 'a> = Box::new(Cursor::new(first).chain(archive));
    Ok(capped(whole, &limits, |counted| open(BufReader::with_capacity(256 * 1024, counted)))?)
}

fn take_apart(archive: impl Read, folder: &Path) -> Result<Files, Error> {
    let limits = TarLimits { header_bytes: 1024 * 1024, bytes: BYTE_LIMIT };
    let mut archive = Archive::new(archive, limits);
    let broken = |error: crate::tar::TarError| Error::Archive(format!("the archive of images cannot be read: {error}"));
    let (mut files, mut links) = (Files::new(), Vec::new());
    let mut entry = Entry::default();
    let mut number = 0;
    while archive.next(&mut entry).map_err(broken)? {
        number += 1;
        if number > ENTRY_LIMIT {
            return Err(Error::Archive(format!("the archive of images has more than {ENTRY_LIMIT} entries")));
        }
        let name = name_of(&entry.path, None)?;
        match entry.kind {
            EntryKind::File => {
                let path = folder.join(number.to_string());
                let content = store(&mut archive, entry.size, &path).map_err(|error| match error {
                    Stored::Tar(error) => broken(error),
                    Stored::File(error) => error.into(),
                    // Holes would cost an attacker nothing and us the disk.
                    Stored::Sparse => Error::Archive(format!(
                        "`{name}` of the archive is sparse, as nothing in an archive of images is: make it without `tar --sparse`"
                    )),
                })?;
                files.insert(name, content);
            }
            // Old archives have a layer once and name it again in other folders.
            EntryKind::HardLink => links.push((name, name_of(&entry.link, None)?)),
            EntryKind::SymbolicLink => {
                let target = name_of(&entry.link, Some(&name))?;
                links.push((name, target));
            }
            EntryKind::Folder => {}
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                return Err(Error::Archive(format!(
                    "`{name}` of the archive is a device: this is no archive of images"
                )));
            }
        }
    }
    resolve(&mut files, links);
    Ok(files)
}

/// Links may come before what they name and may lead to links; what leads nowhere or in circles is left out. Each link is
/// followed once.
fn resolve(files: &mut Files, links: Vec<(String, String)>) {
    let targets: HashMap<String, String> = links.into_iter().collect();
    let mut resolved: HashMap<&str, Option<Content>> = HashMap::new();
    for name in targets.keys() {
        let mut way: HashSet<&str> = HashSet::new();
        let mut current = name.as_str();
        let found = loop {
            if let Some(known) = resolved.get(current) {
                break known.clone();
            }
            match targets.get(current) {
                Some(next) if way.insert(current) => current = next,
                Some(_) => break None,
                None => break files.get(current).cloned(),
            }
        };
        resolved.extend(way.into_iter().map(|name| (name, found.clone())));
    }
    let found: Vec<(String, Content)> =
        resolved.into_iter().filter_map(|(name, found)| Some((name.to_owned(), found?))).collect();
    files.extend(found);
}

enum Stored {
    Tar(crate::tar::TarError),
    File(std::io::Error),
    Sparse,
}

fn store(archive: &mut Archive<impl Read>, size: u64, path: &Path) -> Result<Content, Stored> {
    let mut file = fs_err::File::create_new(path).map_err(Stored::File)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut written = 0;
    while let Some((offset, data)) = archive.data().map_err(Stored::Tar)? {
        if offset != written {
            return Err(Stored::Sparse);
        }
        file.write_all(data).map_err(Stored::File)?;
        hasher.update(data);
        written = offset + data.len() as u64;
    }
    if size != written {
        return Err(Stored::Sparse);
    }
    Ok(Content { path: path.to_owned(), digest: hasher.finish(), size })
}

/// The name of an entry, or what a link in the folder of `from` leads to: parts joined by `/`, without `.` and `..`.
fn name_of(path: &[u8], from: Option<&str>) -> Result<String, Error> {
    let text = std::str::from_utf8(path)
        .map_err(|_| Error::Archive(format!("the archive has a name that is not UTF-8: `{}`", path.escape_ascii())))?;
    let folder = from.and_then(|from| from.rsplit_once('/')).map_or("", |(folder, _)| folder);
    let start = if text.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if from.is_some() && parts.pop().is_some() => {}
            ".." => return Err(Error::Archive(format!("`{text}` of the archive leads out of it: it is not read"))),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
