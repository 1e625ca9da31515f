//! `cove-server check`: database and blob store compared both ways, and with `--deep` every byte hashed again.

use std::collections::HashMap;

use cove_oci::{Digest, Hasher};
use http_body_util::BodyExt;

use crate::blobs::{BlobStore, BlobStoreError};
use crate::error::Error;
use crate::metadata::{MetadataError, MetadataStore};

/// Rows read at a time.
const PAGE: u32 = 1000;

/// What a check has looked at and found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes hashed.
    pub hashed_bytes: u64,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// Keys of the objects that the database does not know; `problems` names them too.
    pub unknown: Vec<String>,
}

/// Compares. Works beside a running server: what changes meanwhile is looked at twice before it is a problem.
pub async fn check(store: &MetadataStore, blobs: &BlobStore, deep: bool) -> Result<Report, Error> {
    let mut report = Report { problems: store.inconsistencies().await?, ..Default::default() };
    compare_objects(store, blobs, &mut report).await?;
    let mut after = String::new();
    loop {
        let page = store.all_blobs(&after, PAGE).await?;
        for (digest, size, content) in &page {
            report.blobs += 1;
            let extents = store.extents(content).await?;
            if let Some(key) = blobs.damaged(&extents).await?
                && still_there(store, digest, content).await?
            {
                report.problems.push(format!("blob {digest}: object {key} is missing or has another length"));
                continue;
            }
            if deep {
                let found = rehash(blobs, extents, *size, digest).await;
                report.hashed_bytes += size;
                if found.as_ref().ok().map(Digest::as_str) != Some(digest.as_str())
                    && still_there(store, digest, content).await?
                {
                    let found = found.map_or_else(|error| error.to_string(), |found| format!("hashes to {found}"));
                    report.problems.push(format!("blob {digest}: {found}"));
                }
            }
        }
        match page.last() {
            Some((digest, ..)) => after.clone_from(digest),
            None => return Ok(report),
        }
    }
}

/// Every object in the store must be known; every durable byte in the database must be in the store.
async fn compare_objects(store: &MetadataStore, blobs: &BlobStore, report: &mut Report) -> Result<(), Error> {
    // Listed first: an object that comes into being later is not looked for, one that goes is looked up again.
    let mut listed: HashMap<String, u64> = blobs.list().await?.into_iter().collect();
    let mut after = String::new();
    loop {
        let page = store.all_objects(&after, PAGE).await?;
        for object in &page {
            let found = listed.remove(&object.key);
            let enough = found.is_some_and(|found| found >= object.length);
            if object.length > 0 && object.multipart.is_none() && !enough {
                let now = blobs.length(&object.key).await?;
                // Deleted bytes are garbage first, then gone, then forgotten: asked in this order, no moment of it
                // looks like a loss.
                let known = !store.is_garbage(&object.content).await?
                    && store.objects(&object.content).await?.iter().any(|now| now.key == object.key);
                if known && now.is_none_or(|now| now < object.length) {
                    let problem = format!("object {}: {} bytes recorded, {now:?} found", object.key, object.length);
                    report.problems.push(problem);
                }
            }
        }
        match page.last() {
            Some(object) => after.clone_from(&object.key),
            None => break,
        }
    }
    for (key, length) in listed {
        // Gone from the database and being deleted right now, or unknown.
        if blobs.length(&key).await?.is_some() && !store.knows_object(&key).await? {
            report.problems.push(format!("object {key}: {length} bytes that the database does not know"));
            report.unknown.push(key);
        }
    }
    Ok(())
}

async fn still_there(store: &MetadataStore, digest: &str, content: &str) -> Result<bool, Error> {
    let digest: Digest = digest.parse().map_err(|_| MetadataError::Corrupt(digest.to_owned()))?;
    Ok(store.content_of(&digest).await?.is_some_and(|(now, _)| now == content))
}

async fn rehash(blobs: &BlobStore, extents: Vec<(String, u64)>, size: u64, digest: &str) -> Result<Digest, Error> {
    let claimed: Digest = digest.parse().map_err(|_| MetadataError::Corrupt(digest.to_owned()))?;
    let mut body = blobs.read(extents, 0..size).await?;
    let mut hasher = Hasher::new(claimed.algorithm());
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(BlobStoreError::from)?.into_data() {
            hasher.update(&bytes);
        }
    }
    Ok(hasher.finish())
}
