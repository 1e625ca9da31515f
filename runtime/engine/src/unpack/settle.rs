//! What a layer needs from the layers below it.

use std::path::{Path, PathBuf};

use super::{UnpackError, UnpackOptions, Unpacked};

/// Completes a layer from the layers below it, nearest first.
pub fn settle(
    _folder: &Path,
    _unpacked: &Unpacked,
    _below: &[PathBuf],
    _options: &UnpackOptions,
) -> Result<(), UnpackError> {
    Ok(())
}
