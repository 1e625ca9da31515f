//! Programs that were compiled before, by the text of their profile.
//!
//! A profile is compiled once for a machine's uptime: all containers with the same profile share a file, which is
//! written new and renamed, so it is whole or not there. It decides what a container may do: a file is believed only if
//! it belongs to this user, nobody else may write to it or to its folder, and its checksum is right.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::program::{Instruction, MOST};
use super::{Filter, SeccompError, compile};

/// Raised whenever the same profile would make another program: what was kept before is then not found.
const VERSION: &str = "1";
/// How many programs are kept. Profiles differ by capabilities, so there are few; who has more makes them anew.
const KEPT: usize = 256;
/// Flags, then instructions of 8 bytes each, then the SHA-256 of all that.
const CHECKSUM: usize = 32;

/// The program of a profile, which is the text of `linux.seccomp` in `config.json`. What was made before of the same
/// text is taken from `folder`; what had to be made is kept there, for this user alone. Failing to keep it is no error.
///
/// # Errors
/// The text is no profile, or [`compile`] says no.
pub fn cached(profile_json: &str, folder: &Path) -> Result<Filter, SeccompError> {
    let path = folder.join(key(profile_json));
    if let Some(filter) = read(&path, folder) {
        return Ok(filter);
    }
    let filter = compile(&serde_json::from_str(profile_json)?)?;
    // Without a copy everything works, more slowly.
    let _ = keep(&path, folder, &filter);
    Ok(filter)
}

/// The name of a profile's file.
fn key(profile_json: &str) -> String {
    let mut hash = Sha256::new();
    for part in [env!("CARGO_PKG_VERSION"), VERSION, std::env::consts::ARCH, profile_json] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether only this user can have written what these are about.
fn is_ours(file: &std::fs::Metadata) -> bool {
    file.uid() == rustix::process::geteuid().as_raw() && file.mode() & 0o022 == 0
}

fn read(path: &Path, folder: &Path) -> Option<Filter> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let about = file.metadata().ok()?;
    let largest = 4 + MOST * 8 + CHECKSUM;
    if !about.is_file() || about.len() > largest as u64 || !is_ours(&about) || !is_ours(&folder.metadata().ok()?) {
        return None;
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.read_to_end(&mut bytes).ok()?;
    decode(&bytes)
}

fn encode(filter: &Filter) -> Vec<u8> {
    let mut bytes = filter.flags.to_le_bytes().to_vec();
    for Instruction { code, yes, no, value } in &filter.program {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*yes, *no]);
        bytes.extend(value.to_le_bytes());
    }
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Filter> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    if Sha256::digest(content)[..] != *checksum {
        return None;
    }
    let (flags, program) = content.split_first_chunk()?;
    let (program, []) = program.as_chunks::<8>() else { return None };
    let instruction = |[a, b, yes, no, c, d, e, f]: [u8; 8]| Instruction {
        code: u16::from_le_bytes([a, b]),
        yes,
        no,
        value: u32::from_le_bytes([c, d, e, f]),
    };
    Some(Filter { program: program.iter().copied().map(instruction).collect(), flags: u32::from_le_bytes(*flags) })
}

fn keep(path: &Path, folder: &Path, filter: &Filter) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_ours(&folder.metadata()?) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    make_room(folder)?;
    let mut name = OsString::from(path);
    name.push(format!(".{}", std::process::id()));
    let new = Unfinished(PathBuf::from(name));
    // A process of this number that died half-way.
    let _ = std::fs::remove_file(&new.0);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new.0)?;
    file.write_all(&encode(filter))?;
    std::fs::rename(&new.0, path)
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where all went well.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Empties a folder that has become too full.
fn make_room(folder: &Path) -> io::Result<()> {
    let files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    if files.len() >= KEPT {
        for file in files {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}
