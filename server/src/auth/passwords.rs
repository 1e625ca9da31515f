//! Passwords: argon2id, two computations at once, verified ones remembered for a short time, failures slowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::metadata::Account;

/// Each computation takes 19 MiB and a core for a while: more than two at once would be a way to stop a server.
const AT_ONCE: usize = 2;
/// Logins that may wait for their turn. More are turned away at once: they would wait longer than any client does.
const WAITING: usize = 200;
/// How long a verified password need not be computed again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The longest that a login is slowed. Nobody is ever locked out.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After this long, failures are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Most accounts and addresses whose failures are counted.
const COUNTED: usize = 10_000;
/// Passwords shorter than this get a warning when they are set.
pub const WEAK_PASSWORD_LENGTH: usize = 12;
/// Longer passwords are refused unread.
const LONGEST: usize = 1024;

/// So many logins are waiting that this one would not be answered in time.
#[derive(Debug, thiserror::Error)]
#[error("too many logins at once: try again in a few seconds")]
pub struct TooManyLogins;

/// Hashes a new password: argon2id in PHC form.
pub fn hash_password(password: &str) -> std::io::Result<String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| std::io::Error::other(format!("the password could not be hashed: {error}")))
}

/// Verifies passwords.
pub struct Passwords {
    computing: Semaphore,
    waiting: Semaphore,
    /// Keyed hashes of passwords that were right a moment ago. The key never leaves the process.
    remembered: Cache<[u8; 32], Instant>,
    key: [u8; 32],
    /// Verified against when there is no such account, so that it takes as long.
    decoy: String,
    failures: Mutex<HashMap<Subject, (u32, Instant)>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Account(String),
    Address(IpAddr),
}

impl Passwords {
    /// A verifier that remembers nothing yet.
    pub fn new() -> std::io::Result<Self> {
        Ok(Passwords {
            computing: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
            remembered: Cache::new(1024),
            key: rand::random(),
            decoy: hash_password(&super::random_password())?,
            failures: Mutex::new(HashMap::new()),
        })
    }

    /// Whether `password` is the account's. Takes as long for an account that does not exist (`None`) or has no
    /// password.
    pub async fn verify(
        &self,
        name: &str,
        account: Option<&Account>,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<bool, TooManyLogins> {
        let remember = account.map(|account| self.remember_key(account, password));
        if let Some(key) = &remember
            && self.remembered.get(key).is_some_and(|since| since.elapsed() < REMEMBERED)
        {
            return Ok(true);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| TooManyLogins)?;
        tokio::time::sleep(self.pause(name, from)).await;
        let stored = account.and_then(|account| account.password.clone());
        let exists = stored.is_some() && password.len() <= LONGEST;
        let hash = stored.unwrap_or_else(|| self.decoy.clone());
        let attempt = if exists { password.to_owned() } else { String::new() };
        let _permit = self.computing.acquire().await.map_err(|_| TooManyLogins)?;
        let computed = tokio::task::spawn_blocking(move || matches(&attempt, &hash)).await;
        let right = exists && computed.unwrap_or(false);
        if right {
            if let Some(key) = remember {
                self.remembered.insert(key, Instant::now());
            }
        } else {
            self.count_failure(name, from);
        }
        Ok(right)
    }

    /// Waits before a login that may be a guess, and counts one that was wrong. For tokens used as passwords.
    pub async fn slow_down(&self, name: &str, from: Option<IpAddr>) {
        tokio::time::sleep(self.pause(name, from)).await;
        self.count_failure(name, from);
    }

    fn remember_key(&self, account: &Account, password: &str) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(self.key);
        hasher.update(account.id.to_le_bytes());
        hasher.update(account.password_version.to_le_bytes());
        hasher.update(password.as_bytes());
        hasher.finalize().into()
    }

    /// 50 ms after the second failure, doubling, for the account and for the address.
    fn pause(&self, name: &str, from: Option<IpAddr>) -> Duration {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |subject: &Subject| match failures.get(subject) {
            Some((count, last)) if last.elapsed() < FORGOTTEN => *count,
            _ => 0,
        };
        let account = count(&Subject::Account(name.to_owned()));
        let address = from.map_or(0, |from| count(&Subject::Address(from)));
        match account.max(address) {
            0 | 1 => Duration::ZERO,
            count => Duration::from_millis(50 << (count - 2).min(6)).min(LONGEST_PAUSE),
        }
    }

    fn count_failure(&self, name: &str, from: Option<IpAddr>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() > COUNTED {
            failures.retain(|_, (_, last)| last.elapsed() < FORGOTTEN);
        }
        if failures.len() > COUNTED {
            failures.clear(); // somebody fills the table on purpose: start over rather than grow
        }
        let name: String = name.chars().take(64).collect();
        for subject in std::iter::once(Subject::Account(name)).chain(from.map(Subject::Address)) {
            let (count, last) = failures.entry(subject).or_insert((0, Instant::now()));
            *count = if last.elapsed() < FORGOTTEN { count.saturating_add(1) } else { 1 };
            *last = Instant::now();
        }
    }
}

fn matches(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metadata::AccountKind;

    fn account(password: &str, version: i64) -> Account {
        Account {
            id: 1,
            name: "alice".to_owned(),
            kind: AccountKind::User,
            administrator: false,
            disabled: false,
            password: Some(hash_password(password).unwrap()),
            password_version: version,
        }
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::new().unwrap();
        let alice = account("correct horse", 1);
        assert!(passwords.verify("alice", Some(&alice), "correct horse", None).await.unwrap());
        assert!(!passwords.verify("alice", Some(&alice), "wrong", None).await.unwrap());
        assert!(!passwords.verify("nobody", None, "", None).await.unwrap());
        // A changed password ends what is remembered of the old one.
        let changed = account("other", 2);
        assert!(!passwords.verify("alice", Some(&changed), "correct horse", None).await.unwrap());
    }

    #[tokio::test]
    async fn failures_are_slowed_and_nobody_is_locked_out() {
        let passwords = Passwords::new().unwrap();
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(passwords.pause("alice", from), Duration::ZERO);
        for _ in 0..50 {
            passwords.count_failure("alice", from);
        }
        assert_eq!(passwords.pause("alice", None), LONGEST_PAUSE, "by account");
        assert_eq!(passwords.pause("bob", from), LONGEST_PAUSE, "by address");
        assert_eq!(passwords.pause("bob", None), Duration::ZERO);
    }
}
