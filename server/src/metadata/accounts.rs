//! Accounts: users, who may log in with a password, and robots, which have only tokens.

use std::fmt;

use super::connection::{Connection, execute, fetch_all, fetch_one, fetch_optional, transaction};
use super::{MetadataError, MetadataStore, Result, now_ms};

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A person: has a password, owns `NAME/*`.
    User,
    /// A program: has only tokens, owns nothing.
    Robot,
}

impl AccountKind {
    fn as_str(self) -> &'static str {
        match self {
            AccountKind::User => "user",
            AccountKind::Robot => "robot",
        }
    }
}

impl fmt::Display for AccountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Key in the database.
    pub id: i64,
    /// Its name, by which it logs in.
    pub name: String,
    /// User or robot.
    pub kind: AccountKind,
    /// May do everything.
    pub administrator: bool,
    /// May do nothing.
    pub disabled: bool,
    /// argon2id hash in PHC form; `None`: no password logs in.
    pub password: Option<String>,
    /// Raised by every change of the password.
    pub password_version: i64,
}

type Row = (i64, String, String, bool, bool, Option<String>, i64);

fn account((id, name, kind, administrator, disabled, password, password_version): Row) -> Result<Account> {
    let kind = match kind.as_str() {
        "user" => AccountKind::User,
        "robot" => AccountKind::Robot,
        _ => return Err(MetadataError::Corrupt(kind)),
    };
    Ok(Account { id, name, kind, administrator, disabled, password, password_version })
}

macro_rules! select_account {
    ($condition:literal) => {
        concat!("SELECT id, name, kind, administrator, disabled, password, password_version FROM accounts ", $condition)
    };
}

impl MetadataStore {
    /// The account of that name.
    pub async fn account(&self, name: &str) -> Result<Option<Account>> {
        let mut connection = self.read().await?;
        by_name(&mut connection, name).await
    }

    /// The account with that key.
    pub async fn account_by_id(&self, id: i64) -> Result<Option<Account>> {
        let mut connection = self.read().await?;
        fetch_optional!(connection, Row, select_account!("WHERE id = $1"), id)?.map(account).transpose()
    }

    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        let mut connection = self.read().await?;
        let rows = fetch_all!(connection, Row, select_account!("ORDER BY name"))?;
        rows.into_iter().map(account).collect()
    }

    /// Makes an account. `password` is its hash.
    pub async fn add_account(
        &self,
        name: &str,
        kind: AccountKind,
        administrator: bool,
        password: Option<&str>,
    ) -> Result<()> {
        transaction!(self, tx => {
            if by_name(&mut tx, name).await?.is_some() {
                return Err(MetadataError::Exists(name.to_owned()));
            }
            insert(&mut tx, name, kind, administrator, password).await
        })
    }

    /// Makes the first account, an administrator, unless there is an account already. `false`: there was one.
    pub async fn add_first_account(&self, name: &str, password: &str) -> Result<bool> {
        transaction!(self, tx => {
            let (count,) = fetch_one!(tx, (i64,), "SELECT COUNT(*) FROM accounts")?;
            if count == 0 {
                insert(&mut tx, name, AccountKind::User, true, Some(password)).await?;
            }
            Ok(count == 0)
        })
    }

    /// Sets a new password (its hash) and ends what the old one gave. `false`: no such account.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<bool> {
        transaction!(self, tx => {
            let sql = "UPDATE accounts SET password = $1, password_version = password_version + 1 WHERE name = $2";
            Ok(execute!(tx, sql, password, name)? > 0)
        })
    }

    /// Locks an account out or lets it in again. `false`: no such account.
    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool> {
        transaction!(self, tx => {
            Ok(execute!(tx, "UPDATE accounts SET disabled = $1 WHERE name = $2", disabled, name)? > 0)
        })
    }

    /// Removes an account with its tokens and grants; its repositories stay. `false`: no such account.
    pub async fn remove_account(&self, name: &str) -> Result<bool> {
        transaction!(self, tx => { Ok(execute!(tx, "DELETE FROM accounts WHERE name = $1", name)? > 0) })
    }
}

async fn by_name(connection: &mut Connection, name: &str) -> Result<Option<Account>> {
    fetch_optional!(connection, Row, select_account!("WHERE name = $1"), name)?.map(account).transpose()
}

async fn insert(
    tx: &mut Connection,
    name: &str,
    kind: AccountKind,
    administrator: bool,
    password: Option<&str>,
) -> Result<()> {
    let sql = "INSERT INTO accounts (name, kind, administrator, disabled, password, password_version, created_ms)
               VALUES ($1, $2, $3, $4, $5, 1, $6)";
    execute!(tx, sql, name, kind.as_str(), administrator, false, password, now_ms())?;
    Ok(())
}
