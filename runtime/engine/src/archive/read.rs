//! Takes an archive apart: every file into a folder under a number, by a name that never becomes a path.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use cove_oci::{Algorithm, Hasher};

use super::{Content, Layout, parse};
use crate::Error;
use crate::tar::{Archive, Entry, EntryKind, TarLimits};

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

/// Undoes the compression that the first bytes tell of.
pub(crate) fn decompressed<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let mut input = BufReader::with_capacity(256 * 1024, archive);
    Ok(match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        _ => Box::new(input),
    })
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

/// Links may come before what they name and may lead to links; what leads nowhere or in circles is left out.
fn resolve(files: &mut Files, mut links: Vec<(String, String)>) {
    loop {
        let before = links.len();
        links.retain(|(name, target)| match files.get(target).cloned() {
            Some(content) => files.insert(name.clone(), content).is_some_and(|_| false),
            None => true,
        });
        if links.len() == before {
            return;
        }
    }
}

enum Stored {
    Tar(crate::tar::TarError),
    File(std::io::Error),
}

fn store(archive: &mut Archive<impl Read>, size: u64, path: &Path) -> Result<Content, Stored> {
    let mut file = fs_err::File::create_new(path).map_err(Stored::File)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut written = 0;
    while let Some((offset, data)) = archive.data().map_err(Stored::Tar)? {
        // Nothing that an archive of images holds is sparse; whoever packed it so gets it filled.
        pad(&mut file, &mut hasher, offset - written).map_err(Stored::File)?;
        file.write_all(data).map_err(Stored::File)?;
        hasher.update(data);
        written = offset + data.len() as u64;
    }
    pad(&mut file, &mut hasher, size - written).map_err(Stored::File)?;
    Ok(Content { path: path.to_owned(), digest: hasher.finish(), size })
}

fn pad(file: &mut impl Write, hasher: &mut Hasher, mut count: u64) -> std::io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let part = &ZEROS[..usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len())];
        file.write_all(part)?;
        hasher.update(part);
        count -= part.len() as u64;
    }
    Ok(())
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
