//! Counts pulls without slowing them down: in memory, written to the database now and then and at shutdown.
//!
//! A server that is killed loses what it has counted since it wrote last; the number is for people who look for an
//! image, and not for bills.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_oci::RepositoryName;

use crate::state::Server;

/// How long a pull may wait to be written.
const INTERVAL: Duration = Duration::from_secs(10);

/// Pulls that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    counted: Mutex<BTreeMap<RepositoryName, u64>>,
}

impl Pulls {
    /// Counts pulls of a repository.
    pub(crate) fn add(&self, repository: &RepositoryName, pulls: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.get_mut(repository) {
            Some(number) => *number += pulls,
            None => {
                counted.insert(repository.clone(), pulls);
            }
        }
    }

    /// Takes what has been counted, in the order of names.
    fn take(&self) -> Vec<(RepositoryName, u64)> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *counted).into_iter().collect()
    }
}

/// Writes again and again, until the server stops.
pub async fn run(server: Arc<Server>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        write(&server).await;
    }
}

/// Writes what has been counted. What cannot be written now is kept for the next time.
pub async fn write(server: &Server) {
    let pulls = server.pulls.take();
    if pulls.is_empty() {
        return;
    }
    if let Err(error) = server.store.add_pulls(&pulls).await {
        tracing::warn!(%error, "the numbers of pulls could not be written; it is tried again");
        for (repository, number) in &pulls {
            server.pulls.add(repository, *number);
        }
    }
}
