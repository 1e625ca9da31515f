//! Unpacks layers: a stand-in until the real one lands.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Limits.
#[derive(Debug, Clone, Default)]
pub struct UnpackLimits {}

/// Only one id is mapped.
#[derive(Debug, Clone, Copy)]
pub struct OneId;

/// Options.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Limits.
    pub limits: UnpackLimits,
    /// Only one id is mapped.
    pub rootless: Option<OneId>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What was unpacked.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
    dependent: bool,
}

impl Unpacked {
    /// Whether no lower layer is needed.
    pub fn is_independent(&self) -> bool {
        !self.dependent
    }
}

/// Unpacks.
pub fn unpack(mut tar: impl Read, folder: &Path, _options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    let mut unpacked = Unpacked::default();
    {
        let mut archive = tar::Archive::new(&mut tar);
        archive.set_preserve_permissions(true);
        for entry in archive.entries()? {
            let mut entry = entry?;
            unpacked.entries += 1;
            unpacked.bytes += entry.size();
            let path = entry.path()?.into_owned();
            if path.components().count() > 1 && !folder.join(path.parent().unwrap_or(&path)).exists() {
                unpacked.dependent = true;
            }
            entry.unpack_in(folder)?;
        }
    }
    io::copy(&mut tar, &mut io::sink())?;
    Ok(unpacked)
}

/// Completes a layer.
pub fn settle(
    _folder: &Path,
    _unpacked: &Unpacked,
    _below: &[PathBuf],
    _options: &UnpackOptions,
) -> Result<(), UnpackError> {
    Ok(())
}
