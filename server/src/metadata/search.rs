//! What a search finds, and what it shows: descriptions, and how often images were pulled.

use cove_oci::RepositoryName;

use super::connection::{execute, fetch_all, fetch_one, transaction};
use super::rights::{Viewer, visible_condition};
use super::{MetadataStore, Result, size_to_store, stored, stored_size};

/// A repository that a search has found.
#[derive(Debug, Clone)]
pub struct FoundRepository {
    /// Its name.
    pub name: RepositoryName,
    /// What its owner says about it; may be empty.
    pub description: String,
    /// How often images of it were pulled.
    pub pulls: u64,
}

/// `repositories r` that hold a manifest, that the viewer may see, and whose name or description has the term.
macro_rules! found_condition {
    ($position:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id) AND (",
            $position,
            "(r.name, $1) > 0 OR ",
            $position,
            "(lower(r.description), $1) > 0) AND ",
            visible_condition!("$2", "$3", "$4")
        )
    };
}

macro_rules! count_found {
    ($position:literal) => {
        concat!("SELECT COUNT(*) FROM repositories r WHERE ", found_condition!($position))
    };
}

macro_rules! select_found {
    ($position:literal) => {
        concat!(
            "SELECT r.name, r.description, COALESCE(p.total, 0) FROM repositories r ",
            "LEFT JOIN pulls p ON p.repository_id = r.id WHERE ",
            found_condition!($position),
            " ORDER BY CASE WHEN substr(r.name, 1, 8) = 'library/' THEN 0 ELSE 1 END, ",
            "COALESCE(p.total, 0) DESC, r.name LIMIT $5 OFFSET $6"
        )
    };
}

impl MetadataStore {
    /// Repositories with `term` in their name or description that `viewer` may see: official ones first, then by
    /// pulls. At most `limit` after `skip` of them, and how many there are in all.
    pub async fn search(
        &self,
        viewer: &Viewer,
        term: &str,
        skip: u64,
        limit: u32,
    ) -> Result<(u64, Vec<FoundRepository>)> {
        let mut connection = self.read().await?;
        let term = term.to_ascii_lowercase();
        let (administrator, account, prefix) = (viewer.administrator, viewer.account_id, viewer.own_prefix.as_deref());
        let sql = connection.dialect(count_found!("instr"), count_found!("strpos"));
        let (total,) = fetch_one!(connection, (i64,), sql, &term, administrator, account, prefix)?;
        let sql = connection.dialect(select_found!("instr"), select_found!("strpos"));
        let (limit, skip) = (i64::from(limit), size_to_store(skip));
        let rows =
            fetch_all!(connection, (String, String, i64), sql, &term, administrator, account, prefix, limit, skip)?;
        let found = rows.into_iter().map(|(name, description, pulls)| {
            Ok(FoundRepository { name: stored(&name)?, description, pulls: stored_size(pulls)? })
        });
        Ok((stored_size(total)?, found.collect::<Result<_>>()?))
    }

    /// Sets what a search shows of a repository. `false`: there is none of that name.
    pub async fn set_description(&self, repository: &RepositoryName, description: &str) -> Result<bool> {
        // No kept answer shows a description.
        transaction!(self, quiet tx => {
            let sql = "UPDATE repositories SET description = $1 WHERE name = $2";
            Ok(execute!(tx, sql, description, repository.as_str())? > 0)
        })
    }

    /// Adds to the numbers of pulls, in the order of names so that servers that do so together do not collide. What
    /// is no longer there is passed over. Kept answers stay good: none has such a number.
    pub async fn add_pulls(&self, pulls: &[(RepositoryName, u64)]) -> Result<()> {
        transaction!(self, quiet tx => {
            for (repository, more) in pulls {
                let sql = "INSERT INTO pulls (repository_id, total) SELECT id, $2 FROM repositories WHERE name = $1
                           ON CONFLICT (repository_id) DO UPDATE SET total = pulls.total + excluded.total";
                execute!(tx, sql, repository.as_str(), size_to_store(*more))?;
            }
            Ok(())
        })
    }
}
