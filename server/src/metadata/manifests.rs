//! Manifests, tags and referrers. A manifest, its edges and its tags appear in one transaction: readers see
//! all of it or nothing.

use std::collections::{BTreeSet, HashSet};

use cove_oci::{Digest, Manifest, ManifestReference, RepositoryName, Tag};

use super::connection::{Connection, execute, fetch_all, fetch_optional, transaction};
use super::garbage::{ReviewKind, review};
use super::repositories::{ensure_repository, repository_id};
use super::{MetadataError, MetadataStore, Result, now_ms, stored, stored_size};

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Set when it is going to be reviewed because it has lost its tag.
    pub due_ms: Option<i64>,
}

/// A manifest to be stored.
#[derive(Debug)]
pub struct ManifestPut<'a> {
    /// Where.
    pub repository: &'a RepositoryName,
    /// Its digest.
    pub digest: &'a Digest,
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Tags to point to it.
    pub tags: &'a [Tag],
    /// Accept an image whose blobs are not there.
    pub sparse: bool,
}

/// Outcome of [`MetadataStore::put_manifest`].
#[derive(Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// Stored; these blobs are not there (only with `sparse`).
    Stored(Vec<Digest>),
    /// Not stored: these blobs are not there.
    MissingBlobs(Vec<Digest>),
}

/// An entry in a list of referrers.
#[derive(Debug, Clone)]
pub struct ReferrerRow {
    /// Digest of the manifest that has the subject.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// Its annotations, JSON.
    pub annotations: Option<String>,
}

impl MetadataStore {
    /// The manifest that `reference` names in `repository`.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<Option<StoredManifest>> {
        let mut connection = self.read().await?;
        let row = match reference {
            ManifestReference::Tag(tag) => {
                let sql = "SELECT m.digest, m.media_type, m.bytes FROM repositories r
                           JOIN tags t ON t.repository_id = r.id
                           JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest
                           WHERE r.name = $1 AND t.name = $2";
                let row =
                    fetch_optional!(connection, (String, String, Vec<u8>), sql, repository.as_str(), tag.as_str())?;
                row.map(|(digest, media_type, bytes)| (digest, media_type, bytes, None))
            }
            ManifestReference::Digest(digest) => {
                let sql = "SELECT m.digest, m.media_type, m.bytes, v.due_ms FROM repositories r
                           JOIN manifests m ON m.repository_id = r.id
                           LEFT JOIN reviews v
                           ON v.kind = 'manifest' AND v.repository_id = r.id AND v.digest = m.digest
                           WHERE r.name = $1 AND m.digest = $2";
                let (repository, digest) = (repository.as_str(), digest.as_str());
                fetch_optional!(connection, (String, String, Vec<u8>, Option<i64>), sql, repository, digest)?
            }
        };
        row.map(|(digest, media_type, bytes, due_ms)| {
            Ok(StoredManifest { digest: stored(&digest)?, media_type, bytes, due_ms })
        })
        .transpose()
    }

    /// Checks what the manifest needs, and stores it with its edges and tags.
    pub async fn put_manifest(&self, put: &ManifestPut<'_>) -> Result<PutOutcome> {
        let required: BTreeSet<&str> = put.manifest.required_blobs().map(|blob| blob.digest.as_str()).collect();
        let blobs = json_list(put.manifest.blobs().map(|blob| blob.digest.as_str()));
        let children = json_list(put.manifest.children().map(|child| child.digest.as_str()));
        let referrer = put.manifest.referrer();
        let annotations = referrer.annotations.as_ref().and_then(|map| serde_json::to_string(map).ok());
        let subject = put.manifest.subject().map(|subject| subject.digest.as_str());
        transaction!(self, tx => {
            let present = match repository_id(&mut tx, put.repository).await? {
                Some(id) => lock_links(&mut tx, id, &json_list(required.iter().copied())).await?,
                None => HashSet::new(),
            };
            let missing = required.iter().filter(|digest| !present.contains(**digest));
            let missing: Vec<Digest> = missing.map(|digest| stored(digest)).collect::<Result<_>>()?;
            if !missing.is_empty() && !put.sparse {
                return Ok(PutOutcome::MissingBlobs(missing));
            }
            let id = ensure_repository(&mut tx, put.repository, self.policy.visibility).await?;
            lock_children(&mut tx, id, &children).await?;
            let sql = "INSERT INTO manifests (repository_id, digest, media_type, bytes, subject, artifact_type,
                       annotations, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                       ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = excluded.media_type";
            execute!(tx, sql, id, put.digest.as_str(), put.manifest.media_type(), put.manifest.bytes(), subject,
                referrer.artifact_type.as_deref(), annotations.as_deref(), now_ms())?;
            let present = json_list(present.iter().map(String::as_str));
            add_edges(&mut tx, id, put.digest, &blobs, &present, &children).await?;
            // Pushed again, it is wanted again.
            execute!(tx, "DELETE FROM reviews WHERE kind = 'manifest' AND repository_id = $1 AND digest = $2",
                id, put.digest.as_str())?;
            for tag in put.tags {
                self.point(&mut tx, id, tag, put.digest).await?;
            }
            Ok(PutOutcome::Stored(missing))
        })
    }

    /// Points a tag to a manifest; the one it pointed to before may have become unused.
    async fn point(&self, tx: &mut Connection, repository_id: i64, tag: &Tag, digest: &Digest) -> Result<()> {
        let sql = "INSERT INTO tags (repository_id, name, digest, updated_ms) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (repository_id, name) DO NOTHING";
        if execute!(tx, sql, repository_id, tag.as_str(), digest.as_str(), now_ms())? > 0 {
            return Ok(());
        }
        let sql = tx.dialect(
            "SELECT digest FROM tags WHERE repository_id = $1 AND name = $2",
            "SELECT digest FROM tags WHERE repository_id = $1 AND name = $2 FOR UPDATE",
        );
        let before = fetch_optional!(tx, (String,), sql, repository_id, tag.as_str())?;
        if let Some((before,)) = before.filter(|(before,)| before != digest.as_str()) {
            review(tx, ReviewKind::Manifest, repository_id, &before, self.due()).await?;
        }
        let sql = "UPDATE tags SET digest = $3, updated_ms = $4 WHERE repository_id = $1 AND name = $2";
        match execute!(tx, sql, repository_id, tag.as_str(), digest.as_str(), now_ms())? {
            0 => Err(MetadataError::Busy), // deleted between the two statements
            _ => Ok(()),
        }
    }

    /// Deletes a manifest with the tags that point to it, or only a tag. `false`: there is none.
    pub async fn delete_manifest(&self, repository: &RepositoryName, reference: &ManifestReference) -> Result<bool> {
        transaction!(self, tx => {
            let Some(id) = repository_id(&mut tx, repository).await? else { return Ok(false) };
            match reference {
                ManifestReference::Digest(digest) => self.remove_manifest(&mut tx, id, digest.as_str()).await,
                ManifestReference::Tag(tag) => {
                    let sql = "DELETE FROM tags WHERE repository_id = $1 AND name = $2 RETURNING digest";
                    let Some((digest,)) = fetch_optional!(tx, (String,), sql, id, tag.as_str())? else {
                        return Ok(false);
                    };
                    review(&mut tx, ReviewKind::Manifest, id, &digest, self.due()).await?;
                    Ok(true)
                }
            }
        })
    }

    /// Removes a manifest; what it named or was named by it is looked at after the grace.
    pub(super) async fn remove_manifest(&self, tx: &mut Connection, id: i64, digest: &str) -> Result<bool> {
        let due = self.due();
        if tx.is_postgres() {
            // Held first: edges that somebody is just adding would not be fed.
            let sql = "SELECT digest FROM manifests WHERE repository_id = $1 AND digest = $2 FOR UPDATE";
            fetch_optional!(tx, (String,), sql, id, digest)?;
        }
        let feeds = [
            "INSERT INTO reviews (kind, repository_id, digest, due_ms)
             SELECT 'link', l.repository_id, l.digest, CAST($3 AS BIGINT) FROM repository_blobs l
             JOIN manifest_blobs e ON e.repository_id = l.repository_id AND e.blob = l.digest
             WHERE e.repository_id = $1 AND e.manifest = $2 ORDER BY l.digest
             ON CONFLICT (kind, repository_id, digest) DO UPDATE SET due_ms = excluded.due_ms",
            "INSERT INTO reviews (kind, repository_id, digest, due_ms)
             SELECT 'manifest', m.repository_id, m.digest, CAST($3 AS BIGINT) FROM manifests m
             JOIN manifest_children e ON e.repository_id = m.repository_id AND e.child = m.digest
             WHERE e.repository_id = $1 AND e.parent = $2 ORDER BY m.digest
             ON CONFLICT (kind, repository_id, digest) DO UPDATE SET due_ms = excluded.due_ms",
            "INSERT INTO reviews (kind, repository_id, digest, due_ms)
             SELECT 'manifest', m.repository_id, m.digest, CAST($3 AS BIGINT) FROM manifests m
             WHERE m.repository_id = $1 AND m.subject = $2 ORDER BY m.digest
             ON CONFLICT (kind, repository_id, digest) DO UPDATE SET due_ms = excluded.due_ms",
        ];
        for sql in feeds {
            execute!(tx, sql, id, digest, due)?;
        }
        execute!(tx, "DELETE FROM reviews WHERE kind = 'manifest' AND repository_id = $1 AND digest = $2", id, digest)?;
        Ok(execute!(tx, "DELETE FROM manifests WHERE repository_id = $1 AND digest = $2", id, digest)? > 0)
    }

    /// Tags after `last` in the order of their bytes, at most `limit`. `None`: there is no such repository.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: u32,
    ) -> Result<Option<Vec<String>>> {
        let mut connection = self.read().await?;
        let Some(id) = repository_id(&mut connection, repository).await? else { return Ok(None) };
        let sql = "SELECT name FROM tags WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3";
        let rows = fetch_all!(connection, (String,), sql, id, last.unwrap_or(""), i64::from(limit))?;
        Ok(Some(rows.into_iter().map(|(name,)| name).collect()))
    }

    /// The manifests whose subject is `digest`, in the order of their digests, after `last`, at most `limit`.
    /// Annotations beyond 16 KiB are left out: they can be read in the manifest.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
        last: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ReferrerRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT m.digest, m.media_type, CAST(length(m.bytes) AS BIGINT), m.artifact_type,
                   CASE WHEN length(m.annotations) <= 16384 THEN m.annotations END
                   FROM repositories r JOIN manifests m ON m.repository_id = r.id
                   WHERE r.name = $1 AND m.subject = $2 AND (CAST($3 AS TEXT) IS NULL OR m.artifact_type = $3)
                   AND m.digest > $4 ORDER BY m.digest LIMIT $5";
        type Row = (String, String, i64, Option<String>, Option<String>);
        let (repository, digest, last) = (repository.as_str(), digest.as_str(), last.unwrap_or(""));
        let rows = fetch_all!(connection, Row, sql, repository, digest, artifact_type, last, i64::from(limit))?;
        let row = |(digest, media_type, size, artifact_type, annotations): Row| {
            let (digest, size) = (stored(&digest)?, stored_size(size)?);
            Ok::<_, MetadataError>(ReferrerRow { digest, media_type, size, artifact_type, annotations })
        };
        rows.into_iter().map(row).collect()
    }
}

/// Digests as a JSON array, sorted and each once: how lists enter a statement on both engines. Digests are
/// plain ASCII, so nothing needs escaping.
fn json_list<'a>(digests: impl Iterator<Item = &'a str>) -> String {
    let sorted: BTreeSet<&str> = digests.collect();
    let quoted: Vec<String> = sorted.into_iter().map(|digest| format!("\"{digest}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// Which of `digests` the repository links. The links stay until the transaction ends: a collector that wants
/// one of them waits, and then sees the manifest that needs it.
async fn lock_links(tx: &mut Connection, repository_id: i64, digests: &str) -> Result<HashSet<String>> {
    let sql = tx.dialect(
        "SELECT digest FROM repository_blobs
         WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2))",
        "SELECT digest FROM repository_blobs
         WHERE repository_id = $1 AND digest IN (SELECT json_array_elements_text(CAST($2 AS json)))
         ORDER BY digest FOR KEY SHARE",
    );
    let rows = fetch_all!(tx, (String,), sql, repository_id, digests)?;
    Ok(rows.into_iter().map(|(digest,)| digest).collect())
}

/// Keeps those of an index's children that are here from being collected before the edges are committed.
async fn lock_children(tx: &mut Connection, repository_id: i64, digests: &str) -> Result<()> {
    if tx.is_postgres() && digests != "[]" {
        let sql = "SELECT digest FROM manifests
                   WHERE repository_id = $1 AND digest IN (SELECT json_array_elements_text(CAST($2 AS json)))
                   ORDER BY digest FOR KEY SHARE";
        fetch_all!(tx, (String,), sql, repository_id, digests)?;
    }
    Ok(())
}

async fn add_edges(
    tx: &mut Connection,
    repository_id: i64,
    digest: &Digest,
    blobs: &str,
    present: &str,
    children: &str,
) -> Result<()> {
    let sql = tx.dialect(
        "INSERT INTO manifest_blobs (repository_id, manifest, blob, required)
         SELECT $1, $2, value, value IN (SELECT value FROM json_each($4)) FROM json_each($3) WHERE true
         ON CONFLICT (repository_id, manifest, blob) DO UPDATE SET required = excluded.required",
        "INSERT INTO manifest_blobs (repository_id, manifest, blob, required)
         SELECT $1, $2, value, value IN (SELECT json_array_elements_text(CAST($4 AS json)))
         FROM json_array_elements_text(CAST($3 AS json))
         ON CONFLICT (repository_id, manifest, blob) DO UPDATE SET required = excluded.required",
    );
    execute!(tx, sql, repository_id, digest.as_str(), blobs, present)?;
    let sql = tx.dialect(
        "INSERT INTO manifest_children (repository_id, parent, child)
         SELECT $1, $2, value FROM json_each($3) WHERE true ON CONFLICT DO NOTHING",
        "INSERT INTO manifest_children (repository_id, parent, child)
         SELECT $1, $2, json_array_elements_text(CAST($3 AS json)) ON CONFLICT DO NOTHING",
    );
    execute!(tx, sql, repository_id, digest.as_str(), children)?;
    Ok(())
}
