//! Uploads: what has durably arrived, and who may write to them.

use cove_oci::RepositoryName;

use super::connection::{execute, fetch_all, fetch_optional, transaction};
use super::garbage::discard;
use super::{MetadataError, MetadataStore, Result, now_ms, size_to_store, stored, stored_size};

/// An upload.
#[derive(Debug, Clone)]
pub struct UploadRow {
    /// Its id: 128 random bits in hexadecimal.
    pub id: String,
    /// The repository it was begun in.
    pub repository: RepositoryName,
    /// Who began it.
    pub account_id: Option<i64>,
    /// Durable bytes.
    pub size: u64,
    /// Saved hasher over those bytes.
    pub hash_state: String,
    /// Number of the request that may write.
    pub writer: i64,
}

/// How far an upload has come, and what that did to the object that is being written.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The upload.
    pub id: &'a str,
    /// The request that writes.
    pub writer: i64,
    /// Durable bytes of the upload.
    pub size: u64,
    /// Saved hasher over those bytes.
    pub hash_state: &'a str,
    /// The object that is being written.
    pub key: &'a str,
    /// Its durable bytes.
    pub length: u64,
    /// Its multipart upload and durable parts, while they are open.
    pub multipart: Option<(&'a str, &'a str)>,
}

type Row = (String, String, Option<i64>, i64, String, i64);

fn upload((id, repository, account_id, size, hash_state, writer): Row) -> Result<UploadRow> {
    Ok(UploadRow { id, repository: stored(&repository)?, account_id, size: stored_size(size)?, hash_state, writer })
}

impl MetadataStore {
    /// Records an upload and, where the blob store wants it, the object that it will be written to.
    pub async fn add_upload(&self, upload: &UploadRow, key: Option<&str>) -> Result<()> {
        transaction!(self, quiet tx => {
            let sql = "INSERT INTO uploads (id, repository, account_id, size, hash_state, writer, touched_ms)
                       VALUES ($1, $2, $3, 0, $4, 0, $5)";
            execute!(tx, sql, upload.id.as_str(), upload.repository.as_str(), upload.account_id,
                upload.hash_state.as_str(), now_ms())?;
            if let Some(key) = key {
                let sql = "INSERT INTO objects (key, content, position, length) VALUES ($1, $2, 0, 0)";
                execute!(tx, sql, key, upload.id.as_str())?;
            }
            Ok(())
        })
    }

    /// The upload of that id.
    pub async fn upload(&self, id: &str) -> Result<Option<UploadRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, repository, account_id, size, hash_state, writer FROM uploads WHERE id = $1";
        fetch_optional!(connection, Row, sql, id)?.map(upload).transpose()
    }

    /// Makes the caller the upload's writer; the one before can commit nothing more.
    pub async fn take_upload(&self, id: &str) -> Result<Option<UploadRow>> {
        transaction!(self, quiet tx => {
            let sql = "UPDATE uploads SET writer = writer + 1, touched_ms = $2 WHERE id = $1
                       RETURNING id, repository, account_id, size, hash_state, writer";
            fetch_optional!(tx, Row, sql, id, now_ms())?.map(upload).transpose()
        })
    }

    /// Records an object that is about to be written, before its first byte. Its position is the upload's size,
    /// so objects stay in order.
    pub async fn add_object(&self, id: &str, writer: i64, key: &str, position: u64) -> Result<()> {
        transaction!(self, quiet tx => {
            still_writer(&mut tx, id, writer).await?;
            abandon_objects(&mut tx, id, Some(position)).await?;
            let sql = "INSERT INTO objects (key, content, position, length) VALUES ($1, $2, $3, 0)";
            execute!(tx, sql, key, id, size_to_store(position))?;
            Ok(())
        })
    }

    /// Records the multipart upload of an object, before its first part.
    pub async fn set_multipart(&self, id: &str, writer: i64, key: &str, multipart: &str) -> Result<()> {
        transaction!(self, quiet tx => {
            still_writer(&mut tx, id, writer).await?;
            execute!(tx, "UPDATE objects SET multipart = $2, parts = '[]' WHERE key = $1", key, multipart)?;
            Ok(())
        })
    }

    /// Records bytes that are durable. Fails with [`MetadataError::StaleWriter`] if another request has taken over.
    pub async fn progress(&self, progress: &Progress<'_>) -> Result<()> {
        transaction!(self, quiet tx => {
            let sql = "UPDATE uploads SET size = $3, hash_state = $4, touched_ms = $5 WHERE id = $1 AND writer = $2";
            let changed = execute!(tx, sql, progress.id, progress.writer, size_to_store(progress.size),
                progress.hash_state, now_ms())?;
            if changed == 0 {
                return Err(MetadataError::StaleWriter);
            }
            record_object(&mut tx, progress).await
        })
    }

    /// The object of an upload whose multipart upload is still open: key, length, id, parts.
    pub async fn open_object(&self, id: &str) -> Result<Option<(String, u64, String, String)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT key, length, multipart, COALESCE(parts, '[]') FROM objects
                   WHERE content = $1 AND multipart IS NOT NULL";
        let row = fetch_optional!(connection, (String, i64, String, String), sql, id)?;
        row.map(|(key, length, multipart, parts)| Ok((key, stored_size(length)?, multipart, parts))).transpose()
    }

    /// Ends an upload and leaves its content to be deleted. `false`: there was none.
    pub async fn cancel_upload(&self, id: &str) -> Result<bool> {
        transaction!(self, quiet tx => {
            if execute!(tx, "DELETE FROM uploads WHERE id = $1", id)? == 0 {
                return Ok(false);
            }
            discard(&mut tx, id, now_ms()).await?;
            Ok(true)
        })
    }

    /// Ends uploads that have made no progress since `before_ms`. Returns how many.
    pub async fn expire_uploads(&self, before_ms: i64) -> Result<usize> {
        transaction!(self, quiet tx => {
            let sql = "DELETE FROM uploads WHERE touched_ms < $1 RETURNING id";
            let expired = fetch_all!(tx, (String,), sql, before_ms)?;
            for (id,) in &expired {
                discard(&mut tx, id, now_ms()).await?;
            }
            Ok(expired.len())
        })
    }
}

/// Fails if another request has taken over the upload; holds its row until the transaction ends.
async fn still_writer(tx: &mut super::Connection, id: &str, writer: i64) -> Result<()> {
    let sql = "UPDATE uploads SET touched_ms = $3 WHERE id = $1 AND writer = $2";
    match execute!(tx, sql, id, writer, now_ms())? {
        0 => Err(MetadataError::StaleWriter),
        _ => Ok(()),
    }
}

/// Records how much of the object that is being written is durable.
pub(super) async fn record_object(tx: &mut super::Connection, progress: &Progress<'_>) -> Result<()> {
    let (multipart, parts) = progress.multipart.unzip();
    let sql = "UPDATE objects SET length = $2, multipart = $3, parts = $4 WHERE key = $1";
    execute!(tx, sql, progress.key, size_to_store(progress.length), multipart, parts)?;
    Ok(())
}

/// Gives up the objects of an upload that have no recorded byte (at one position, or all). They may exist all the
/// same, from a request that was replaced or killed before it could record anything: so they become garbage under
/// a name of their own, instead of being forgotten.
pub(super) async fn abandon_objects(tx: &mut super::Connection, id: &str, position: Option<u64>) -> Result<()> {
    let sql = "UPDATE objects SET content = content || '-' || key WHERE content = $1 AND length = 0
               AND position = COALESCE($2, position) RETURNING content";
    for (abandoned,) in fetch_all!(tx, (String,), sql, id, position.map(size_to_store))? {
        discard(tx, &abandoned, now_ms()).await?;
    }
    Ok(())
}
