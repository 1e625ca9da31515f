//! Which repositories are known to hold a blob, so that a push can ask for it there instead of sending it.
//!
//! Remembered to save work only: what is lost or wrong costs one request.

use cove_oci::{Digest, RegistryName, RepositoryName};
use cove_transfer::Origin;
use serde::{Deserialize, Serialize};

use crate::places::Places;
use crate::{Error, record};

/// How many repositories are remembered for a blob.
const LIMIT: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    registry: String,
    repository: String,
}

fn path(places: &Places, blob: &Digest) -> std::path::PathBuf {
    places.origins().join(format!("{}.json", blob.hex()))
}

/// The repositories, the latest first.
pub(crate) fn of(places: &Places, blob: &Digest) -> Vec<Origin> {
    let known: Vec<Known> = record::read(&path(places, blob)).ok().flatten().unwrap_or_default();
    let parsed = known.iter().filter_map(|known| {
        let registry = known.registry.parse::<RegistryName>().ok()?;
        let repository = known.repository.parse::<RepositoryName>().ok()?;
        Some(Origin { registry, repository })
    });
    parsed.collect()
}

/// Adds one.
pub(crate) fn add(places: &Places, blob: &Digest, origin: &Origin) -> Result<(), Error> {
    let mut origins = of(places, blob);
    if origins.first() == Some(origin) {
        return Ok(());
    }
    origins.retain(|known| known != origin);
    origins.insert(0, origin.clone());
    origins.truncate(LIMIT);
    let known = origins
        .iter()
        .map(|origin| Known { registry: origin.registry.to_string(), repository: origin.repository.to_string() });
    record::remember(&path(places, blob), &known.collect::<Vec<_>>())
}

/// Forgets a blob that is no longer in the store.
pub(crate) fn forget(places: &Places, blob: &Digest) {
    let _ = fs_err::remove_file(path(places, blob));
}
