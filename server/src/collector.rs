//! The work that goes on beside requests: expired uploads, unused content, garbage.
//!
//! Nothing here stops a push or a pull. Decisions are transactions of the metadata store; bytes are deleted
//! only after the decision is durable, under keys that no other content will ever have.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;

use crate::blobs::BlobStore;
use crate::body::RequestBody;
use crate::error::Error;
use crate::metadata::{as_ms, now_ms};
use crate::state::Server;
use crate::upload::Receiver;

/// Rows that are worked on at a time.
const BATCH: u32 = 100;
/// Longest pause between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// Expired tokens are removed, and keys read again, this often at most.
const HOUSEKEEPING: i64 = 60_000;
/// When garbage that could not be deleted is tried again.
const PUT_OFF: Duration = Duration::from_secs(600);
/// How long the objects of a blob are kept that have been joined: somebody may be reading them.
const READERS_LEFT: Duration = Duration::from_secs(3600);

/// What one look has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads that had made no progress for too long.
    pub expired_uploads: usize,
    /// Manifests, links and blobs that were unused.
    pub unused: usize,
    /// Contents whose bytes are deleted.
    pub contents: usize,
    /// Blobs whose several objects have become one.
    pub joined: usize,
}

/// Looks again and again, until the server stops. `grace` bounds the pause, so that short graces work too.
pub async fn run(server: Arc<Server>, upload_expiry: Duration, grace: Duration) {
    let pause = (grace.min(upload_expiry) / 4).clamp(Duration::from_millis(100), INTERVAL);
    let mut housekeeping_ms = now_ms();
    loop {
        match work(&server, upload_expiry).await {
            Ok(done) if done == Collected::default() => {}
            Ok(done) => tracing::info!(
                expired_uploads = done.expired_uploads,
                unused = done.unused,
                contents = done.contents,
                joined = done.joined,
                "collected"
            ),
            Err(error) => tracing::error!(%error, "collecting failed; it is tried again"),
        }
        if now_ms() - housekeeping_ms > HOUSEKEEPING {
            housekeeping_ms = now_ms();
            if let Err(error) = housekeep(&server).await {
                tracing::error!(%error, "housekeeping failed; it is tried again");
            }
        }
        tokio::time::timeout(pause, server.garbage.notified()).await.ok();
    }
}

async fn housekeep(server: &Server) -> Result<(), Error> {
    server.store.remove_ended_tokens().await?;
    server.keys.refresh().await?;
    Ok(())
}

/// Looks once, at everything that is due, and joins what is scattered.
async fn work(server: &Arc<Server>, upload_expiry: Duration) -> Result<Collected, Error> {
    let collected = collect(server, upload_expiry).await?;
    Ok(Collected { joined: join(server).await?, ..collected })
}

/// Looks once, at everything that is due.
pub async fn collect(server: &Server, upload_expiry: Duration) -> Result<Collected, Error> {
    let mut done = Collected {
        expired_uploads: server.store.expire_uploads(now_ms() - as_ms(upload_expiry)).await?,
        ..Default::default()
    };
    loop {
        let due = server.store.due_reviews(BATCH).await?;
        for review in &due {
            done.unused += usize::from(server.store.settle_review(review).await?);
        }
        if due.len() < BATCH as usize {
            break;
        }
    }
    loop {
        let garbage = server.store.garbage(BATCH).await?;
        for content in &garbage {
            match delete(server, content).await {
                Ok(()) => done.contents += 1,
                // One that cannot be deleted must not keep the others: it is tried again later.
                Err(error) => {
                    tracing::error!(%error, content, "garbage could not be deleted; it is tried again");
                    server.store.put_off_garbage(content, now_ms() + as_ms(PUT_OFF)).await?;
                }
            }
        }
        if garbage.len() < BATCH as usize {
            return Ok(done);
        }
    }
}

/// Makes one object of the several that an upload in chunks has left in a bucket, a blob at a time. Done as an
/// upload of the blob's own bytes, so a crash leaves nothing that is not known.
async fn join(server: &Arc<Server>) -> Result<usize, Error> {
    if matches!(server.blobs, BlobStore::Folder(_)) {
        return Ok(0); // there an upload is one growing file
    }
    let mut joined = 0;
    while let Some((repository, digest, blob)) = server.store.scattered_blob().await? {
        let body = server.blobs.read(server.extents(&blob).await?, 0..blob.size).await?;
        let mut body = RequestBody::new(Body::new(body), server.behaviour.idle_timeout);
        let algorithm = digest.algorithm();
        let upload = Receiver::begin(server, repository, None, algorithm).await?;
        let id = upload.id.clone();
        let receiver = Receiver::take_over(server, upload, Some(algorithm)).await?;
        let old_until_ms = now_ms() + as_ms(READERS_LEFT);
        if let Err(error) = receiver.replace(&mut body, &digest, &blob.content, old_until_ms).await {
            server.store.cancel_upload(&id).await?;
            return Err(error);
        }
        joined += 1;
    }
    Ok(joined)
}

async fn delete(server: &Server, content: &str) -> Result<(), Error> {
    // Whoever still writes to it stops first: bytes that come after the deletion would be known to nobody.
    let _claim = server.active_uploads.claim(content).await;
    for object in server.store.objects(content).await? {
        server.blobs.delete(&object.key, object.multipart.as_deref()).await?;
    }
    Ok(server.store.forget_content(content).await?)
}
