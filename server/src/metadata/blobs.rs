//! Blobs, the content they point to, and the links that make them readable.

use std::time::Duration;

use cove_oci::{Digest, RepositoryName};

use super::connection::{Connection, execute, fetch_all, fetch_optional, transaction};
use super::garbage::{ReviewKind, discard, review};
use super::repositories::{ensure_repository, repository_id};
use super::rights::{Viewer, visible_condition};
use super::uploads::{Progress, abandon_objects, record_object};
use super::{MetadataError, MetadataStore, Result, as_ms, now_ms, size_to_store, stored_size};

/// A blob that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Size in bytes.
    pub size: u64,
    /// Which content holds its bytes.
    pub content: String,
    /// Set when the link is going to be reviewed: who relies on it must [`MetadataStore::postpone`] first.
    pub due_ms: Option<i64>,
}

/// What a finished upload becomes.
#[derive(Debug)]
pub struct FinishedUpload<'a> {
    /// The last progress of the upload: all its bytes are durable.
    pub last: Progress<'a>,
    /// Where the blob is linked.
    pub repository: &'a RepositoryName,
    /// Digest of the bytes.
    pub digest: &'a Digest,
    /// Content of the same digest that the new bytes replace, because it was found damaged, gone or scattered.
    pub replaced: Option<&'a str>,
    /// From when on the objects of what is replaced may be deleted.
    pub replaced_until_ms: i64,
}

/// Outcome of [`MetadataStore::unlink_blob`].
#[derive(Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// The link is gone.
    Done,
    /// There was none.
    Absent,
    /// A manifest of the repository names the blob.
    InUse(String),
}

impl MetadataStore {
    /// The blob, if `repository` links it. This is the access check too.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<StoredBlob>> {
        let mut connection = self.read().await?;
        let sql = "SELECT b.size, b.content, v.due_ms FROM repositories r
                   JOIN repository_blobs l ON l.repository_id = r.id
                   JOIN blobs b ON b.digest = l.digest
                   LEFT JOIN reviews v ON v.kind = 'link' AND v.repository_id = r.id AND v.digest = l.digest
                   WHERE r.name = $1 AND l.digest = $2";
        let row = fetch_optional!(connection, (i64, String, Option<i64>), sql, repository.as_str(), digest.as_str())?;
        row.map(|(size, content, due_ms)| Ok(StoredBlob { size: stored_size(size)?, content, due_ms })).transpose()
    }

    /// The content behind a digest, whoever may read it. For the push that brings the same bytes again.
    pub async fn content_of(&self, digest: &Digest) -> Result<Option<(String, u64)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT content, size FROM blobs WHERE digest = $1";
        let row = fetch_optional!(connection, (String, i64), sql, digest.as_str())?;
        row.map(|(content, size)| Ok((content, stored_size(size)?))).transpose()
    }

    /// The objects of a content with their lengths, in order.
    pub async fn extents(&self, content: &str) -> Result<Vec<(String, u64)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT key, length FROM objects WHERE content = $1 AND length > 0 ORDER BY position";
        let rows = fetch_all!(connection, (String, i64), sql, content)?;
        rows.into_iter().map(|(key, length)| Ok((key, stored_size(length)?))).collect()
    }

    /// Gives what is about to be reviewed a new grace, because somebody counts on it now. Costs a write only in
    /// the second half of the grace. `false`: the review is over, so whether the thing is still there must be read again.
    pub async fn postpone(&self, kind: ReviewKind, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        transaction!(self, quiet tx => {
            let Some(id) = repository_id(&mut tx, repository).await? else { return Ok(false) };
            let sql = "UPDATE reviews SET due_ms = $4 WHERE kind = $1 AND repository_id = $2 AND digest = $3";
            Ok(execute!(tx, sql, kind.as_str(), id, digest.as_str(), self.due())? > 0)
        })
    }

    /// Whether something due then should be postponed when somebody looks at it.
    pub fn should_postpone(&self, due_ms: Option<i64>) -> bool {
        due_ms.is_some_and(|due| due < now_ms() + as_ms(self.policy.grace / 2))
    }

    /// How long an answer may be kept that relies on something due then.
    pub fn keep_for(&self, due_ms: Option<i64>) -> Duration {
        match due_ms {
            Some(due) => {
                let until = due - as_ms(self.policy.grace / 2) - now_ms();
                Duration::from_millis(u64::try_from(until).unwrap_or(0))
            }
            None => Duration::MAX,
        }
    }

    /// Any repository that `viewer` may see and that links the blob.
    pub async fn readable_somewhere(&self, viewer: &Viewer, digest: &Digest) -> Result<Option<String>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT r.name FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id ",
            "WHERE l.digest = $1 AND ",
            visible_condition!("$2", "$3", "$4"),
            " LIMIT 1"
        );
        let row = fetch_optional!(
            connection,
            (String,),
            sql,
            digest.as_str(),
            viewer.administrator,
            viewer.account_id,
            viewer.own_prefix.as_deref()
        )?;
        Ok(row.map(|(name,)| name))
    }

    /// Links a blob that the caller was found to be allowed to read. `false`: it is gone meanwhile.
    pub async fn link_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        transaction!(self, tx => {
            if content_for_update(&mut tx, digest).await?.is_none() {
                return Ok(false);
            }
            self.link(&mut tx, repository, digest).await?;
            Ok(true)
        })
    }

    /// Takes the link away, unless a manifest of the repository needs the blob.
    pub async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Unlinked> {
        transaction!(self, tx => {
            let Some(id) = repository_id(&mut tx, repository).await? else { return Ok(Unlinked::Absent) };
            let sql = tx.dialect(
                "SELECT 1 FROM repository_blobs WHERE repository_id = $1 AND digest = $2",
                "SELECT 1::BIGINT FROM repository_blobs WHERE repository_id = $1 AND digest = $2 FOR UPDATE",
            );
            if fetch_optional!(tx, (i64,), sql, id, digest.as_str())?.is_none() {
                return Ok(Unlinked::Absent);
            }
            let sql = "SELECT manifest FROM manifest_blobs WHERE repository_id = $1 AND blob = $2 LIMIT 1";
            if let Some((manifest,)) = fetch_optional!(tx, (String,), sql, id, digest.as_str())? {
                return Ok(Unlinked::InUse(manifest));
            }
            remove_link(&mut tx, id, digest.as_str()).await?;
            Ok(Unlinked::Done)
        })
    }

    /// Makes a blob of an upload's durable bytes and links it. Where the digest is known already, the old bytes
    /// stay and the new ones go, unless the old ones are to be replaced: so a push heals.
    ///
    /// Returns whether there is garbage now.
    pub async fn finish_upload(&self, upload: &FinishedUpload<'_>) -> Result<bool> {
        let now = now_ms();
        transaction!(self, tx => {
            let Progress { id, writer, size, .. } = upload.last;
            if execute!(tx, "DELETE FROM uploads WHERE id = $1 AND writer = $2", id, writer)? == 0 {
                return Err(MetadataError::StaleWriter);
            }
            record_object(&mut tx, &upload.last).await?;
            abandon_objects(&mut tx, id, None).await?;
            let known = content_for_update(&mut tx, upload.digest).await?;
            let garbage = known.is_some();
            match known {
                None => {
                    let sql = "INSERT INTO blobs (digest, size, content, created_ms) VALUES ($1, $2, $3, $4)";
                    execute!(tx, sql, upload.digest.as_str(), size_to_store(size), id, now)?;
                }
                Some(old) if upload.replaced == Some(old.as_str()) => {
                    let sql = "UPDATE blobs SET content = $2, size = $3 WHERE digest = $1";
                    execute!(tx, sql, upload.digest.as_str(), id, size_to_store(size))?;
                    discard(&mut tx, &old, upload.replaced_until_ms).await?;
                }
                Some(_) => discard(&mut tx, id, now).await?,
            }
            self.link(&mut tx, upload.repository, upload.digest).await?;
            Ok(garbage)
        })
    }

    /// Links a blob whose row exists; the link is reviewed after the grace, for the manifest may never come.
    async fn link(&self, tx: &mut Connection, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let id = ensure_repository(tx, repository, self.policy.visibility).await?;
        // The review first: the collector holds its row while it decides, so either we wait and then insert the
        // link that it has removed, or it sees that the date has moved.
        review(tx, ReviewKind::Link, id, digest.as_str(), self.due()).await?;
        let sql = "INSERT INTO repository_blobs (repository_id, digest, created_ms) VALUES ($1, $2, $3)
                   ON CONFLICT (repository_id, digest) DO NOTHING";
        execute!(tx, sql, id, digest.as_str(), now_ms())?;
        Ok(())
    }
}

/// The content of a blob, whose row stays as it is until the transaction ends.
async fn content_for_update(tx: &mut Connection, digest: &Digest) -> Result<Option<String>> {
    let sql = tx.dialect(
        "SELECT content FROM blobs WHERE digest = $1",
        "SELECT content FROM blobs WHERE digest = $1 FOR NO KEY UPDATE",
    );
    Ok(fetch_optional!(tx, (String,), sql, digest.as_str())?.map(|(content,)| content))
}

/// Removes a link; the blob behind it is looked at next, it may have been the last one.
pub(super) async fn remove_link(tx: &mut Connection, repository_id: i64, digest: &str) -> Result<()> {
    execute!(tx, "DELETE FROM repository_blobs WHERE repository_id = $1 AND digest = $2", repository_id, digest)?;
    execute!(
        tx,
        "DELETE FROM reviews WHERE kind = 'link' AND repository_id = $1 AND digest = $2",
        repository_id,
        digest
    )?;
    review(tx, ReviewKind::Blob, 0, digest, now_ms()).await
}
