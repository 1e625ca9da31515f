//! Uploads that a push began and did not finish: the next one goes on with them.

use cove_oci::{Algorithm, Digest};
use cove_transfer::{Origin, UploadJournal};
use serde::{Deserialize, Serialize};

use crate::record;
use crate::store::Store;

#[derive(Debug, Serialize, Deserialize)]
struct Upload {
    registry: String,
    repository: String,
    blob: Digest,
    url: String,
}

impl Store {
    fn upload_path(&self, to: &Origin, blob: &Digest) -> std::path::PathBuf {
        let name = format!("{}/{}@{blob}", to.registry, to.repository);
        let name = Digest::of(Algorithm::Sha256, name.as_bytes());
        self.places.uploads().join(format!("{}.json", name.hex()))
    }
}

// Remembered to save work only: what cannot be read or written costs a new upload.
impl UploadJournal for Store {
    fn find(&self, to: &Origin, blob: &Digest) -> Option<String> {
        let upload: Option<Upload> = record::read(&self.upload_path(to, blob)).ok().flatten();
        upload.map(|upload| upload.url)
    }

    fn remember(&self, to: &Origin, blob: &Digest, url: &str) {
        let (registry, repository) = (to.registry.to_string(), to.repository.to_string());
        let upload = Upload { registry, repository, blob: blob.clone(), url: url.to_owned() };
        if let Err(error) = record::remember(&self.upload_path(to, blob), &upload) {
            tracing::debug!("an upload is not remembered: {error}");
        }
    }

    fn forget(&self, to: &Origin, blob: &Digest) {
        let _ = std::fs::remove_file(self.upload_path(to, blob));
    }
}
