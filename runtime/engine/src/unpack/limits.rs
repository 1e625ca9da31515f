//! Settings of unpacking.

use crate::tar::TarLimits;

/// How much a layer may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries.
    pub entries: u64,
    /// Folders inside each other.
    pub depth: u32,
    /// Bytes of the archive.
    pub bytes: u64,
    /// How many times as large as the compressed layer the archive may be, once it is larger than `ratio_from`.
    pub ratio: u64,
    /// Bytes of the archive from which on `ratio` counts.
    pub ratio_from: u64,
    /// Bytes of one PAX header, long name, or sparse map.
    pub pax_bytes: u64,
    /// Bytes of memory for folders, symbolic links and whiteouts while layers are unpacked: for all of a copy together.
    pub tree_bytes: u64,
    /// Binary logarithm of the largest zstd window.
    pub zstd_window_log: u32,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        UnpackLimits {
            entries: 10_000_000,
            depth: 1024,
            bytes: 1 << 40,
            ratio: 1000,
            ratio_from: 1 << 30,
            pax_bytes: 1 << 20,
            tree_bytes: 128 << 20,
            zstd_window_log: 27,
        }
    }
}

impl UnpackLimits {
    pub(crate) fn tar(&self) -> TarLimits {
        TarLimits { header_bytes: self.pax_bytes, bytes: self.bytes }
    }
}

/// Rootless without subordinate ids: one id is mapped, everything belongs to it, and owners in layers are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneId;

/// The namespace of overlayfs's own extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverlayXattr {
    /// `trusted.overlay.`: mounts by root.
    #[default]
    Trusted,
    /// `user.overlay.`: mounts with `userxattr`, in a user namespace.
    User,
}

impl OverlayXattr {
    /// The prefix of all of them.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            OverlayXattr::Trusted => b"trusted.overlay.",
            OverlayXattr::User => b"user.overlay.",
        }
    }

    /// The one that, empty, tells overlayfs to look for whiteouts in a folder even if no other layer has it: else it
    /// would list them.
    pub fn origin(self) -> &'static str {
        match self {
            OverlayXattr::Trusted => "trusted.overlay.origin",
            OverlayXattr::User => "user.overlay.origin",
        }
    }

    /// The one that makes a folder hide what is below it, with the value `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            OverlayXattr::Trusted => "trusted.overlay.opaque",
            OverlayXattr::User => "user.overlay.opaque",
        }
    }
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnpackOptions {
    /// How much a layer may demand.
    pub limits: UnpackLimits,
    /// Set where nothing can be given to others.
    pub rootless: Option<OneId>,
    /// The form in which the mount will need opaque folders.
    pub overlay: OverlayXattr,
}
