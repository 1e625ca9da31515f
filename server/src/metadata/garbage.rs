//! What may have become unused, and what certainly has.
//!
//! Whatever drops a reference queues a review of what it pointed to, in the same transaction. When the grace
//! is over the review looks again, inside a transaction that holds the row in question: unused manifests and
//! links are removed, a blob without links is condemned. Condemning is one transaction too: the blob's row
//! goes and its content becomes garbage. From then on a push of the same digest makes new content under new
//! object keys, so a late deletion cannot hit it.

use cove_oci::{Digest, RepositoryName};

use super::blobs::remove_link;
use super::connection::{Connection, execute, fetch_all, fetch_optional, transaction};
use super::{MetadataStore, Result, StoredBlob, now_ms, stored, stored_size};

/// What a review looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewKind {
    /// A manifest that has lost a tag or a parent.
    Manifest,
    /// A link that no manifest may need.
    Link,
    /// A blob that no repository may link.
    Blob,
}

impl ReviewKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            ReviewKind::Manifest => "manifest",
            ReviewKind::Link => "link",
            ReviewKind::Blob => "blob",
        }
    }
}

/// Something to look at.
#[derive(Debug, Clone)]
pub struct Review {
    /// What it is.
    pub kind: ReviewKind,
    /// Where; 0 for blobs.
    pub repository_id: i64,
    /// Which.
    pub digest: String,
}

/// An object, as the database knows it.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// Its key in the blob store.
    pub key: String,
    /// Whose it is.
    pub content: String,
    /// Durable bytes.
    pub length: u64,
    /// Its multipart upload, if that is still open.
    pub multipart: Option<String>,
}

/// Queues a review; one that is queued already gets the new date.
pub(super) async fn review(
    tx: &mut Connection,
    kind: ReviewKind,
    repository_id: i64,
    digest: &str,
    due_ms: i64,
) -> Result<()> {
    let sql = "INSERT INTO reviews (kind, repository_id, digest, due_ms) VALUES ($1, $2, $3, $4)
               ON CONFLICT (kind, repository_id, digest) DO UPDATE SET due_ms = excluded.due_ms";
    execute!(tx, sql, kind.as_str(), repository_id, digest, due_ms)?;
    Ok(())
}

/// Gives content up: its objects are deleted by the collector after `since_ms`.
pub(super) async fn discard(tx: &mut Connection, content: &str, since_ms: i64) -> Result<()> {
    let sql = "INSERT INTO garbage (content, since_ms) VALUES ($1, $2) ON CONFLICT (content) DO NOTHING";
    execute!(tx, sql, content, since_ms)?;
    Ok(())
}

impl MetadataStore {
    /// Reviews whose grace is over, oldest first, at most `limit`.
    pub async fn due_reviews(&self, limit: u32) -> Result<Vec<Review>> {
        let mut connection = self.read().await?;
        let sql = "SELECT kind, repository_id, digest FROM reviews WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2";
        let rows = fetch_all!(connection, (String, i64, String), sql, now_ms(), i64::from(limit))?;
        let row = |(kind, repository_id, digest): (String, i64, String)| {
            let kind = match kind.as_str() {
                "manifest" => ReviewKind::Manifest,
                "link" => ReviewKind::Link,
                _ => ReviewKind::Blob,
            };
            Review { kind, repository_id, digest }
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Looks at one thing again and removes it if it is unused. Returns whether it was.
    pub async fn settle_review(&self, due: &Review) -> Result<bool> {
        transaction!(self, tx => {
            let sql = "DELETE FROM reviews WHERE kind = $1 AND repository_id = $2 AND digest = $3 AND due_ms <= $4";
            let digest = due.digest.as_str();
            if execute!(tx, sql, due.kind.as_str(), due.repository_id, digest, now_ms())? == 0 {
                return Ok(false); // postponed meanwhile, or done by another server
            }
            if !lock_row(&mut tx, due).await? || is_used(&mut tx, due).await? {
                return Ok(false);
            }
            match due.kind {
                ReviewKind::Manifest => self.remove_manifest(&mut tx, due.repository_id, digest).await,
                ReviewKind::Link => remove_link(&mut tx, due.repository_id, digest).await.map(|()| true),
                ReviewKind::Blob => condemn(&mut tx, digest).await.map(|()| true),
            }
        })
    }

    /// Content to delete, at most `limit`.
    pub async fn garbage(&self, limit: u32) -> Result<Vec<String>> {
        let mut connection = self.read().await?;
        let sql = "SELECT content FROM garbage WHERE since_ms <= $2 ORDER BY since_ms LIMIT $1";
        let rows = fetch_all!(connection, (String,), sql, i64::from(limit), now_ms())?;
        Ok(rows.into_iter().map(|(content,)| content).collect())
    }

    /// Tries garbage again later.
    pub async fn put_off_garbage(&self, content: &str, until_ms: i64) -> Result<()> {
        transaction!(self, quiet tx => {
            execute!(tx, "UPDATE garbage SET since_ms = $2 WHERE content = $1", content, until_ms)?;
            Ok(())
        })
    }

    /// A blob whose bytes are in several objects, and a repository that links it.
    pub async fn scattered_blob(&self) -> Result<Option<(RepositoryName, Digest, StoredBlob)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT r.name, b.digest, b.size, b.content FROM blobs b
                   JOIN repository_blobs l ON l.digest = b.digest JOIN repositories r ON r.id = l.repository_id
                   WHERE b.content IN (SELECT content FROM objects WHERE position > 0) LIMIT 1";
        let row = fetch_optional!(connection, (String, String, i64, String), sql)?;
        row.map(|(repository, digest, size, content)| {
            let blob = StoredBlob { size: stored_size(size)?, content, due_ms: None };
            Ok((stored(&repository)?, stored(&digest)?, blob))
        })
        .transpose()
    }

    /// Whether content is given up: its objects may be gone already.
    pub async fn is_garbage(&self, content: &str) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT content FROM garbage WHERE content = $1";
        Ok(fetch_optional!(connection, (String,), sql, content)?.is_some())
    }

    /// The objects of a content, those without a durable byte too.
    pub async fn objects(&self, content: &str) -> Result<Vec<ObjectRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT key, content, length, multipart FROM objects WHERE content = $1";
        let rows = fetch_all!(connection, ObjectColumns, sql, content)?;
        rows.into_iter().map(object).collect()
    }

    /// Forgets content whose objects are deleted.
    pub async fn forget_content(&self, content: &str) -> Result<()> {
        transaction!(self, quiet tx => {
            execute!(tx, "DELETE FROM objects WHERE content = $1", content)?;
            execute!(tx, "DELETE FROM garbage WHERE content = $1", content)?;
            Ok(())
        })
    }

    /// Every object, for a check, `limit` at a time in the order of their keys.
    pub async fn all_objects(&self, after: &str, limit: u32) -> Result<Vec<ObjectRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT key, content, length, multipart FROM objects WHERE key > $1 ORDER BY key LIMIT $2";
        let rows = fetch_all!(connection, ObjectColumns, sql, after, i64::from(limit))?;
        rows.into_iter().map(object).collect()
    }

    /// Whether an object has a row.
    pub async fn knows_object(&self, key: &str) -> Result<bool> {
        let mut connection = self.read().await?;
        Ok(fetch_optional!(connection, (String,), "SELECT key FROM objects WHERE key = $1", key)?.is_some())
    }

    /// Every blob (digest, size, content), for a check, `limit` at a time in the order of their digests.
    pub async fn all_blobs(&self, after: &str, limit: u32) -> Result<Vec<(String, u64, String)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT digest, size, content FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2";
        let rows = fetch_all!(connection, (String, i64, String), sql, after, i64::from(limit))?;
        rows.into_iter().map(|(digest, size, content)| Ok((digest, stored_size(size)?, content))).collect()
    }

    /// Rows that contradict each other: things that no sequence of requests can bring about. One line each.
    pub async fn inconsistencies(&self) -> Result<Vec<String>> {
        let mut connection = self.read().await?;
        let questions = [
            (
                "manifest in a repository names a blob that the repository does not link",
                "SELECT r.name || ' ' || e.manifest || ' ' || e.blob FROM manifest_blobs e
                 JOIN repositories r ON r.id = e.repository_id
                 WHERE e.required AND NOT EXISTS (SELECT 1 FROM repository_blobs l
                                 WHERE l.repository_id = e.repository_id AND l.digest = e.blob) LIMIT 100",
            ),
            (
                "object belongs to no upload, blob or garbage",
                "SELECT o.key FROM objects o WHERE NOT EXISTS (SELECT 1 FROM uploads u WHERE u.id = o.content)
                 AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.content = o.content)
                 AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.content = o.content) LIMIT 100",
            ),
            (
                "blob has other bytes in its objects than its size says",
                "SELECT b.digest FROM blobs b WHERE b.size <> (SELECT CAST(COALESCE(SUM(o.length), 0) AS BIGINT)
                 FROM objects o WHERE o.content = b.content) LIMIT 100",
            ),
        ];
        let mut found = Vec::new();
        for (what, sql) in questions {
            let rows = fetch_all!(connection, (String,), sql)?;
            found.extend(rows.into_iter().map(|(which,)| format!("{what}: {which}")));
        }
        Ok(found)
    }
}

type ObjectColumns = (String, String, i64, Option<String>);

fn object((key, content, length, multipart): ObjectColumns) -> Result<ObjectRow> {
    Ok(ObjectRow { key, content, length: stored_size(length)?, multipart })
}

/// Holds the row against those who are about to refer to it. `false`: it is gone.
async fn lock_row(tx: &mut Connection, due: &Review) -> Result<bool> {
    if !tx.is_postgres() {
        return Ok(true); // SQLite has one writer: us
    }
    let digest = due.digest.as_str();
    let sql = match due.kind {
        ReviewKind::Manifest => "SELECT digest FROM manifests WHERE repository_id = $1 AND digest = $2 FOR UPDATE",
        ReviewKind::Link => "SELECT digest FROM repository_blobs WHERE repository_id = $1 AND digest = $2 FOR UPDATE",
        ReviewKind::Blob => "SELECT digest FROM blobs WHERE $1 = 0 AND digest = $2 FOR UPDATE",
    };
    Ok(fetch_optional!(tx, (String,), sql, due.repository_id, digest)?.is_some())
}

/// Whether something refers to it. A referrer is kept by its subject, an index's child by the index.
async fn is_used(tx: &mut Connection, due: &Review) -> Result<bool> {
    let sql = match due.kind {
        ReviewKind::Manifest => {
            "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM tags WHERE repository_id = $1 AND digest = $2)
             OR EXISTS (SELECT 1 FROM manifest_children WHERE repository_id = $1 AND child = $2)
             OR EXISTS (SELECT 1 FROM manifests m JOIN manifests s
                        ON s.repository_id = m.repository_id AND s.digest = m.subject
                        WHERE m.repository_id = $1 AND m.digest = $2)"
        }
        ReviewKind::Link => {
            "SELECT CAST(1 AS BIGINT)
             WHERE EXISTS (SELECT 1 FROM manifest_blobs WHERE repository_id = $1 AND blob = $2)"
        }
        ReviewKind::Blob => {
            "SELECT CAST(1 AS BIGINT)
             WHERE $1 = 0 AND EXISTS (SELECT 1 FROM repository_blobs WHERE digest = $2)"
        }
    };
    Ok(fetch_optional!(tx, (i64,), sql, due.repository_id, due.digest.as_str())?.is_some())
}

async fn condemn(tx: &mut Connection, digest: &str) -> Result<()> {
    let sql = "DELETE FROM blobs WHERE digest = $1 RETURNING content";
    if let Some((content,)) = fetch_optional!(tx, (String,), sql, digest)? {
        discard(tx, &content, now_ms()).await?;
    }
    Ok(())
}
