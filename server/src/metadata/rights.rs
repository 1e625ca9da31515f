//! The facts that a decision about rights needs, and the grants among them. The decision itself is made in
//! `auth::rights`, by one function.

use cove_oci::{Action, RepositoryName};

use super::connection::{execute, fetch_all, fetch_one, transaction};
use super::repositories::stored_visibility;
use super::{MetadataStore, Result, Visibility, now_ms, stored};

/// What the database knows about an account and a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Visibility of the repository; `None` if it does not exist.
    pub visibility: Option<Visibility>,
    /// The strongest level granted to the account or to everybody.
    pub granted: Option<Action>,
}

/// Who looks at a list of repositories.
#[derive(Debug, Clone, Default)]
pub struct Viewer {
    /// Sees everything.
    pub administrator: bool,
    /// `None`: anonymous.
    pub account_id: Option<i64>,
    /// `NAME/`, below which everything is the viewer's own.
    pub own_prefix: Option<String>,
}

/// A grant in a list.
#[derive(Debug, Clone)]
pub struct GrantRow {
    /// Account name; `None`: anonymous.
    pub account: Option<String>,
    /// A repository name or `PREFIX/*`.
    pub pattern: String,
    /// What it allows, with everything weaker.
    pub level: Action,
}

/// `pattern` is the name, or `PREFIX/*` with the name below the prefix. SQL on column `g.pattern`.
macro_rules! pattern_matches {
    ($name:literal) => {
        concat!(
            "(g.pattern = ",
            $name,
            " OR (substr(g.pattern, length(g.pattern) - 1) = '/*' AND substr(",
            $name,
            ", 1, length(g.pattern) - 1) = substr(g.pattern, 1, length(g.pattern) - 1)))"
        )
    };
}

/// Condition on `repositories r`: the viewer may see it. Takes the places of the parameters: administrator
/// (boolean), account id (may be null), own prefix (may be null).
macro_rules! visible_condition {
    ($administrator:literal, $account:literal, $prefix:literal) => {
        concat!(
            "(",
            $administrator,
            " OR r.visibility = 'public' OR substr(r.name, 1, length(",
            $prefix,
            ")) = ",
            $prefix,
            " OR EXISTS (SELECT 1 FROM grants g WHERE (g.account_id IS NULL OR g.account_id = ",
            $account,
            ") AND ",
            $crate::metadata::rights::pattern_matches!("r.name"),
            "))"
        )
    };
}

pub(super) use {pattern_matches, visible_condition};

impl MetadataStore {
    /// What is known about `account_id` (`None`: anonymous) and `repository`.
    pub async fn facts(&self, account_id: Option<i64>, repository: &RepositoryName) -> Result<Facts> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT (SELECT visibility FROM repositories WHERE name = $1), ",
            "(SELECT CAST(MAX(CASE g.level WHEN 'pull' THEN 0 WHEN 'push' THEN 1 WHEN 'delete' THEN 2 ELSE 3 END) AS BIGINT) ",
            "FROM grants g WHERE (g.account_id IS NULL OR g.account_id = $2) AND ",
            pattern_matches!("$1"),
            ")"
        );
        let (visibility, level) =
            fetch_one!(connection, (Option<String>, Option<i64>), sql, repository.as_str(), account_id)?;
        let granted = level.and_then(|level| usize::try_from(level).ok()).and_then(|level| Action::ALL.get(level));
        Ok(Facts { visibility: visibility.as_deref().map(stored_visibility).transpose()?, granted: granted.copied() })
    }

    /// Grants `level` on `pattern`, in place of what was granted there before.
    pub async fn grant(&self, account_id: Option<i64>, pattern: &str, level: Action) -> Result<()> {
        transaction!(self, tx => {
            remove_grant(&mut tx, account_id, pattern).await?;
            let sql = "INSERT INTO grants (account_id, pattern, level, created_ms) VALUES ($1, $2, $3, $4)";
            execute!(tx, sql, account_id, pattern, level.as_str(), now_ms())?;
            Ok(())
        })
    }

    /// Takes a grant back. `false`: there was none.
    pub async fn revoke_grant(&self, account_id: Option<i64>, pattern: &str) -> Result<bool> {
        transaction!(self, tx => { remove_grant(&mut tx, account_id, pattern).await })
    }

    /// All grants.
    pub async fn grants(&self) -> Result<Vec<GrantRow>> {
        let mut connection = self.read().await?;
        let sql = "SELECT a.name, g.pattern, g.level FROM grants g LEFT JOIN accounts a ON a.id = g.account_id
                   ORDER BY a.name, g.pattern";
        let rows = fetch_all!(connection, (Option<String>, String, String), sql)?;
        rows.into_iter()
            .map(|(account, pattern, level)| Ok(GrantRow { account, pattern, level: stored(&level)? }))
            .collect()
    }
}

async fn remove_grant(tx: &mut super::Connection, account_id: Option<i64>, pattern: &str) -> Result<bool> {
    let sql = "DELETE FROM grants WHERE pattern = $2 AND COALESCE(account_id, 0) = COALESCE($1, 0)";
    Ok(execute!(tx, sql, account_id, pattern)? > 0)
}
