//! Personal access tokens and refresh tokens. Only the hash of a secret is stored.

use super::connection::{execute, fetch_all, fetch_one, fetch_optional, transaction};
use super::{MetadataError, MetadataStore, Result, now_ms};

/// What a stored token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Made by a person or for a robot; used as a password.
    Personal,
    /// Handed out by the token service; buys new bearer tokens.
    Refresh,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            TokenKind::Personal => "personal",
            TokenKind::Refresh => "refresh",
        }
    }
}

/// A stored token.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Key in the database; what `token revoke` takes.
    pub id: i64,
    /// Whose it is.
    pub account_id: i64,
    /// Personal or refresh.
    pub kind: TokenKind,
    /// What its owner calls it.
    pub name: String,
    /// Space-separated limits; empty: all that the account may.
    pub scopes: String,
    /// The token that this refresh token came from.
    pub source_token_id: Option<i64>,
    /// The password that this refresh token came from.
    pub password_version: Option<i64>,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends.
    pub expires_ms: Option<i64>,
    /// When it was last used, to within an hour.
    pub used_ms: Option<i64>,
}

type Row = (i64, i64, String, String, String, Option<i64>, Option<i64>, i64, Option<i64>, Option<i64>);

fn token(row: Row) -> Result<TokenRow> {
    let (id, account_id, kind, name, scopes, source_token_id, password_version, created_ms, expires_ms, used_ms) = row;
    let kind = match kind.as_str() {
        "personal" => TokenKind::Personal,
        "refresh" => TokenKind::Refresh,
        _ => return Err(MetadataError::Corrupt(kind)),
    };
    let token = TokenRow {
        id,
        account_id,
        kind,
        name,
        scopes,
        source_token_id,
        password_version,
        created_ms,
        expires_ms,
        used_ms,
    };
    Ok(token)
}

macro_rules! select_token {
    ($condition:literal) => {
        concat!(
            "SELECT id, account_id, kind, name, scopes, source_token_id, password_version, created_ms, expires_ms, ",
            "used_ms FROM tokens ",
            $condition
        )
    };
}

impl MetadataStore {
    /// Stores a token; `token.id` and the times of making and use are filled in by the database. Returns its id.
    pub async fn add_token(&self, token: &TokenRow, hash: &str) -> Result<i64> {
        transaction!(self, quiet tx => {
            let sql = "INSERT INTO tokens (account_id, kind, name, hash, scopes, source_token_id, password_version,
                       created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id";
            let (id,) = fetch_one!(tx, (i64,), sql, token.account_id, token.kind.as_str(), token.name.as_str(), hash,
                token.scopes.as_str(), token.source_token_id, token.password_version, now_ms(), token.expires_ms)?;
            Ok(id)
        })
    }

    /// The token whose secret has that hash.
    pub async fn token_by_hash(&self, hash: &str) -> Result<Option<TokenRow>> {
        let mut connection = self.read().await?;
        fetch_optional!(connection, Row, select_token!("WHERE hash = $1"), hash)?.map(token).transpose()
    }

    /// The token with that key.
    pub async fn token(&self, id: i64) -> Result<Option<TokenRow>> {
        let mut connection = self.read().await?;
        fetch_optional!(connection, Row, select_token!("WHERE id = $1"), id)?.map(token).transpose()
    }

    /// All tokens of an account, oldest first.
    pub async fn tokens(&self, account_id: i64) -> Result<Vec<TokenRow>> {
        let mut connection = self.read().await?;
        let rows = fetch_all!(connection, Row, select_token!("WHERE account_id = $1 ORDER BY id"), account_id)?;
        rows.into_iter().map(token).collect()
    }

    /// Notes that a token was used, and moves its end (of refresh tokens, which slide).
    pub async fn touch_token(&self, id: i64, expires_ms: Option<i64>) -> Result<()> {
        transaction!(self, quiet tx => {
            let sql = "UPDATE tokens SET used_ms = $2, expires_ms = $3 WHERE id = $1";
            execute!(tx, sql, id, now_ms(), expires_ms)?;
            Ok(())
        })
    }

    /// Removes a token and the refresh tokens that came from it. `false`: there is none with that key.
    pub async fn revoke_token(&self, id: i64) -> Result<bool> {
        transaction!(self, tx => { Ok(execute!(tx, "DELETE FROM tokens WHERE id = $1", id)? > 0) })
    }

    /// Removes tokens that have ended: by time, or because the password that they came from has changed.
    pub async fn remove_ended_tokens(&self) -> Result<u64> {
        transaction!(self, quiet tx => {
            let sql = "DELETE FROM tokens WHERE expires_ms < $1 OR password_version <>
                       (SELECT a.password_version FROM accounts a WHERE a.id = tokens.account_id)";
            execute!(tx, sql, now_ms())
        })
    }
}
