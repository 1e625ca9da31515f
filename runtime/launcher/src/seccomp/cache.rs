//! Programs that were compiled before, one file each, named by the hash of their profile.
//!
//! A file holds what the kernel is to enforce, so it is believed only if it belongs to us, nobody else may write it, and
//! the hash over its name and content is right: a file that is cut, damaged, or another profile's under this name is
//! passed over and written anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest, Sha256};

use super::error::SeccompError;
use super::filter::Filter;
use super::program::Instruction;

/// Part of every name: to be raised whenever the compiler's answer to any profile changes.
const VERSION: &str = concat!("cove seccomp 2 ", env!("CARGO_PKG_VERSION"));

type Hash = [u8; 32];

/// The filter for a profile that stands in `config.json` as this text (`linux.seccomp`). It is taken from `folder`, which
/// nobody else must be able to write to, if it was compiled before; else it is compiled and kept there (mode 0600, a new
/// file that is then renamed). That it cannot be kept is no error.
///
/// # Errors
/// As [`super::compile`], and a text that is not a profile.
pub fn cached(profile_json: &str, folder: &Path) -> Result<Filter, SeccompError> {
    let key = key(profile_json);
    let path = folder.join(hexadecimal(&key));
    if let Some(filter) = read(&path, &key) {
        return Ok(filter);
    }
    let profile: LinuxSeccomp = serde_json::from_str(profile_json)?;
    let filter = super::compile(&profile)?;
    let _not_kept = keep(folder, &path, &content(&key, &filter));
    Ok(filter)
}

fn key(profile_json: &str) -> Hash {
    let mut hash = Sha256::new();
    hash.update(VERSION);
    hash.update([0]);
    hash.update(std::env::consts::ARCH);
    hash.update([0]);
    hash.update(profile_json);
    hash.finalize().into()
}

fn hexadecimal(key: &Hash) -> String {
    key.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Flags and program, in this machine's byte order, and the hash over the key and them.
fn content(key: &Hash, filter: &Filter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36 + 8 * filter.program.len());
    bytes.extend(filter.flags.to_ne_bytes());
    for instruction in &filter.program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.yes, instruction.no]);
        bytes.extend(instruction.value.to_ne_bytes());
    }
    let seal = seal(key, &bytes);
    bytes.extend(seal);
    bytes
}

fn seal(key: &Hash, bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(key).chain_update(bytes).finalize().into()
}

/// `None` for a file that is not there or not to be trusted.
fn read(path: &Path, key: &Hash) -> Option<Filter> {
    // Not blocking: a pipe in place of the file must not hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let found = file.metadata().ok()?;
    let largest = 4 + 8 * 4096 + 32;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !found.is_file() || !ours || found.len() > largest {
        return None;
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    Read::by_ref(&mut file).take(largest).read_to_end(&mut bytes).ok()?;
    let (bytes, sealed) = bytes.split_last_chunk::<32>()?;
    if *sealed != seal(key, bytes) {
        return None;
    }
    let (flags, bytes) = bytes.split_first_chunk()?;
    let (instructions, []) = bytes.as_chunks::<8>() else { return None };
    let program = instructions.iter().map(|&[a, b, yes, no, c, d, e, f]| Instruction {
        code: u16::from_ne_bytes([a, b]),
        yes,
        no,
        value: u32::from_ne_bytes([c, d, e, f]),
    });
    Some(Filter { program: program.collect(), flags: u32::from_ne_bytes(*flags) })
}

fn keep(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = DirBuilder::new().mode(0o700).create(folder)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let new = folder.join(format!(".new-{}-{}", std::process::id(), process_time()));
    let written = write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _gone_already = fs::remove_file(&new);
    }
    written
}

/// Two containers' processes may have one id, in two process namespaces.
fn process_time() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
