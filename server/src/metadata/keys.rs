//! The keys that bearer tokens are signed with.

use super::connection::{execute, fetch_all, transaction};
use super::{MetadataStore, Result, now_ms};

/// A signing key.
#[derive(Debug, Clone)]
pub struct SigningKeyRow {
    /// `kid` in a token's header.
    pub id: String,
    /// The only algorithm that it is used with.
    pub algorithm: String,
    /// PKCS #8, base64.
    pub private_key: String,
    /// Public point, base64url.
    pub public_x: String,
    /// Public point, base64url.
    pub public_y: String,
    /// Since when it signs nothing new; it still verifies.
    pub retired_ms: Option<i64>,
}

impl MetadataStore {
    /// All keys, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, algorithm, private_key, public_x, public_y, retired_ms FROM signing_keys
                   ORDER BY created_ms DESC, id";
        let rows = fetch_all!(connection, (String, String, String, String, String, Option<i64>), sql)?;
        let row = |(id, algorithm, private_key, public_x, public_y, retired_ms)| SigningKeyRow {
            id,
            algorithm,
            private_key,
            public_x,
            public_y,
            retired_ms,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Adds a key that signs from now on; those before it are retired. With `only_first`, only when there is no
    /// key that signs, so that two servers which start together agree. Keys retired for longer than `keep_ms` go.
    pub async fn add_signing_key(&self, key: &SigningKeyRow, only_first: bool, keep_ms: i64) -> Result<()> {
        let now = now_ms();
        transaction!(self, tx => {
            if tx.is_postgres() {
                execute!(tx, "LOCK TABLE signing_keys IN EXCLUSIVE MODE")?;
            }
            let current = fetch_all!(tx, (String,), "SELECT id FROM signing_keys WHERE retired_ms IS NULL")?;
            if only_first && !current.is_empty() {
                return Ok(());
            }
            execute!(tx, "DELETE FROM signing_keys WHERE retired_ms < $1", now - keep_ms)?;
            execute!(tx, "UPDATE signing_keys SET retired_ms = $1 WHERE retired_ms IS NULL", now)?;
            let sql = "INSERT INTO signing_keys (id, algorithm, private_key, public_x, public_y, created_ms)
                       VALUES ($1, $2, $3, $4, $5, $6)";
            execute!(tx, sql, key.id.as_str(), key.algorithm.as_str(), key.private_key.as_str(), key.public_x.as_str(),
                key.public_y.as_str(), now)?;
            Ok(())
        })
    }
}
