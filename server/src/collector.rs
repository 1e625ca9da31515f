//! The work that goes on beside requests: expired uploads, unused content, garbage.
//!
//! Nothing here stops a push or a pull. Decisions are transactions of the metadata store; bytes are deleted
//! only after the decision is durable, under keys that no other content will ever have.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::metadata::{as_ms, now_ms};
use crate::state::Server;

/// Rows that are worked on at a time.
const BATCH: u32 = 100;
/// Longest pause between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// Expired tokens are removed, and keys read again, this often at most.
const HOUSEKEEPING: i64 = 60_000;

/// What one look has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads that had made no progress for too long.
    pub expired_uploads: usize,
    /// Manifests, links and blobs that were unused.
    pub unused: usize,
    /// Contents whose bytes are deleted.
    pub contents: usize,
}

/// Looks again and again, until the server stops. `grace` bounds the pause, so that short graces work too.
pub async fn run(server: Arc<Server>, upload_expiry: Duration, grace: Duration) {
    let pause = (grace.min(upload_expiry) / 4).clamp(Duration::from_millis(100), INTERVAL);
    let mut housekeeping_ms = now_ms();
    loop {
        match collect(&server, upload_expiry).await {
            Ok(done) if done == Collected::default() => {}
            Ok(done) => tracing::info!(
                expired_uploads = done.expired_uploads,
                unused = done.unused,
                contents = done.contents,
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
    server.store.remove_expired_tokens().await?;
    server.keys.refresh().await?;
    Ok(())
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
            delete(server, content).await?;
            done.contents += 1;
        }
        if garbage.len() < BATCH as usize {
            return Ok(done);
        }
    }
}

async fn delete(server: &Server, content: &str) -> Result<(), Error> {
    for object in server.store.objects(content).await? {
        server.blobs.delete(&object.key, object.multipart.as_deref()).await?;
    }
    Ok(server.store.forget_content(content).await?)
}
