//! Uploads that outlive the command that began them.

use cove_oci::Digest;

use crate::Origin;

/// Remembers unfinished uploads between commands. What it remembers may be out of date: whoever asks finds out.
pub trait UploadJournal: Send + Sync {
    /// The absolute URL of an upload of this blob to this repository that was begun and not finished.
    fn find(&self, to: &Origin, blob: &Digest) -> Option<String>;

    /// An upload has begun, or has got another URL.
    fn remember(&self, to: &Origin, blob: &Digest, url: &str);

    /// An upload is finished, or lost.
    fn forget(&self, to: &Origin, blob: &Digest);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJournal;

impl UploadJournal for NoJournal {
    fn find(&self, _to: &Origin, _blob: &Digest) -> Option<String> {
        None
    }

    fn remember(&self, _to: &Origin, _blob: &Digest, _url: &str) {}

    fn forget(&self, _to: &Origin, _blob: &Digest) {}
}
