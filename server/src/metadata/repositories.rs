//! Repositories: made by the first push, listed only to those who may see them.

use std::fmt;
use std::str::FromStr;

use cove_oci::RepositoryName;

use super::connection::{Connection, execute, fetch_all, fetch_optional, transaction};
use super::garbage::{ReviewKind, review};
use super::rights::{Viewer, visible_condition};
use super::{MetadataStore, Result, now_ms, stored};

/// Who may pull without having been granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Only those who were granted it.
    Private,
    /// Everybody, without an account too.
    Public,
}

impl Visibility {
    /// The word in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Visibility::Private => "private",
            Visibility::Public => "public",
        }
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Visibility {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "private" => Ok(Visibility::Private),
            "public" => Ok(Visibility::Public),
            _ => Err(()),
        }
    }
}

/// A repository in a list.
#[derive(Debug, Clone)]
pub struct RepositoryRow {
    /// Its name.
    pub name: RepositoryName,
    /// Who may pull.
    pub visibility: Visibility,
    /// How many tags it has.
    pub tags: u64,
    /// Bytes of the blobs that it links; blobs shared with other repositories count in each.
    pub size: u64,
}

impl MetadataStore {
    /// Names of repositories that hold a manifest and that `viewer` may see, after `last`, at most `limit`.
    pub async fn catalog(&self, viewer: &Viewer, last: Option<&str>, limit: u32) -> Result<Vec<RepositoryName>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT r.name FROM repositories r WHERE r.name > $1 ",
            "AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id) AND ",
            visible_condition!("$2", "$3", "$4"),
            " ORDER BY r.name LIMIT $5"
        );
        let rows = fetch_all!(
            connection,
            (String,),
            sql,
            last.unwrap_or(""),
            viewer.administrator,
            viewer.account_id,
            viewer.own_prefix.as_deref(),
            i64::from(limit)
        )?;
        rows.iter().map(|(name,)| stored(name)).collect()
    }

    /// All repositories, for the administrator.
    pub async fn repositories(&self) -> Result<Vec<RepositoryRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT r.name, r.visibility,
                   (SELECT COUNT(*) FROM tags t WHERE t.repository_id = r.id),
                   (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM repository_blobs l
                    JOIN blobs b ON b.digest = l.digest WHERE l.repository_id = r.id)
                   FROM repositories r ORDER BY r.name";
        let rows = fetch_all!(connection, (String, String, i64, i64), sql)?;
        let row = |(name, visibility, tags, size): &(String, String, i64, i64)| {
            Ok(RepositoryRow {
                name: stored(name)?,
                visibility: stored_visibility(visibility)?,
                tags: super::stored_size(*tags)?,
                size: super::stored_size(*size)?,
            })
        };
        rows.iter().map(row).collect()
    }

    /// Sets who may pull; makes the repository if it is not there, so that it can be made public before the
    /// first push.
    pub async fn set_visibility(&self, repository: &RepositoryName, visibility: Visibility) -> Result<()> {
        transaction!(self, tx => {
            ensure_repository(&mut tx, repository, visibility).await?;
            let sql = "UPDATE repositories SET visibility = $1 WHERE name = $2";
            execute!(tx, sql, visibility.as_str(), repository.as_str())?;
            Ok(())
        })
    }

    /// Removes a repository with everything in it. `false`: there is none of that name.
    pub async fn remove_repository(&self, repository: &RepositoryName) -> Result<bool> {
        let now = now_ms();
        transaction!(self, tx => {
            let Some(id) = repository_id(&mut tx, repository).await? else { return Ok(false) };
            if tx.is_postgres() {
                // Whoever links a blob here holds the row too: they come before us, or find nothing.
                fetch_optional!(tx, (i64,), "SELECT id FROM repositories WHERE id = $1 FOR UPDATE", id)?;
            }
            let links = "SELECT digest FROM repository_blobs WHERE repository_id = $1 ORDER BY digest";
            let links = fetch_all!(tx, (String,), links, id)?;
            execute!(tx, "INSERT INTO garbage (content, since_ms) SELECT id, $2 FROM uploads WHERE repository = $1",
                repository.as_str(), now)?;
            execute!(tx, "DELETE FROM uploads WHERE repository = $1", repository.as_str())?;
            execute!(tx, "DELETE FROM reviews WHERE repository_id = $1", id)?;
            execute!(tx, "DELETE FROM repositories WHERE id = $1", id)?;
            for (digest,) in &links {
                review(&mut tx, ReviewKind::Blob, 0, digest, now).await?;
            }
            Ok(true)
        })
    }
}

pub(super) fn stored_visibility(text: &str) -> Result<Visibility> {
    Visibility::from_str(text).map_err(|()| super::MetadataError::Corrupt(text.to_owned()))
}

pub(super) async fn repository_id(connection: &mut Connection, repository: &RepositoryName) -> Result<Option<i64>> {
    let sql = "SELECT id FROM repositories WHERE name = $1";
    Ok(fetch_optional!(connection, (i64,), sql, repository.as_str())?.map(|(id,)| id))
}

pub(super) async fn ensure_repository(
    connection: &mut Connection,
    repository: &RepositoryName,
    visibility: Visibility,
) -> Result<i64> {
    if let Some(id) = repository_id(connection, repository).await? {
        return Ok(id);
    }
    let sql = "INSERT INTO repositories (name, visibility, created_ms) VALUES ($1, $2, $3) RETURNING id";
    let (id,) =
        super::connection::fetch_one!(connection, (i64,), sql, repository.as_str(), visibility.as_str(), now_ms())?;
    Ok(id)
}
