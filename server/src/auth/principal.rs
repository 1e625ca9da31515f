//! From a credential to a principal. What was verified may be remembered; whether the account is enabled, the
//! token revoked or the password changed is looked up every time (through answers kept by generation).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bearer::{Access, BearerError, BearerTokens};
use super::keys::{KeyError, SigningKeys};
use super::passwords::{Passwords, TooManyLogins};
use super::secrets::{PERSONAL_PREFIX, REFRESH_PREFIX, new_secret, secret_hash};
use super::{Ceiling, PatternError};
use crate::kept::Kept;
use crate::metadata::{Account, MetadataError, MetadataStore, TokenKind, TokenRow, Viewer, as_ms, now_ms};

/// How long a refresh token lasts after its last use.
const REFRESH_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Uses are written down this often at most.
const USE_RECORDED: Duration = Duration::from_secs(3600);

/// By what somebody has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// A password, at the version it had.
    Password {
        /// Whose.
        account_id: i64,
        /// Ended by the next change of the password.
        version: i64,
    },
    /// A personal access token.
    Token(i64),
}

impl Credential {
    /// As it stands in a bearer token.
    fn to_claim(&self) -> String {
        match self {
            Credential::Anonymous => "anonymous".to_owned(),
            Credential::Password { account_id, version } => format!("password:{account_id}:{version}"),
            Credential::Token(id) => format!("token:{id}"),
        }
    }

    fn from_claim(claim: &str) -> Option<Self> {
        let mut parts = claim.split(':');
        let credential = match parts.next()? {
            "anonymous" => Credential::Anonymous,
            "password" => {
                Credential::Password { account_id: parts.next()?.parse().ok()?, version: parts.next()?.parse().ok()? }
            }
            "token" => Credential::Token(parts.next()?.parse().ok()?),
            _ => return None,
        };
        parts.next().is_none().then_some(credential)
    }
}

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Principal {
    /// `None`: anonymous, or everybody where there are no accounts.
    pub account: Option<Arc<Account>>,
    /// How they have shown it.
    pub credential: Credential,
    /// What their credential allows at most.
    pub ceiling: Arc<Ceiling>,
    /// The server runs without accounts.
    pub unrestricted: bool,
}

impl Principal {
    /// Somebody without an account.
    pub fn anonymous() -> Self {
        Principal { account: None, credential: Credential::Anonymous, ceiling: Arc::default(), unrestricted: false }
    }

    /// Everybody, on a server without accounts.
    pub fn unrestricted() -> Self {
        Principal { unrestricted: true, ..Principal::anonymous() }
    }

    /// Key of the account in the database.
    pub fn account_id(&self) -> Option<i64> {
        self.account.as_ref().map(|account| account.id)
    }

    /// The name for logs.
    pub fn name(&self) -> &str {
        self.account.as_ref().map_or("anonymous", |account| account.name.as_str())
    }

    /// The name in bearer tokens.
    fn subject(&self) -> &str {
        self.account.as_ref().map_or("", |account| account.name.as_str())
    }

    /// How the database sees the principal when it lists repositories. A credential with limits of its own is
    /// filtered by those afterwards.
    pub fn viewer(&self) -> Viewer {
        let own = self.account.as_ref().filter(|account| account.kind == crate::metadata::AccountKind::User);
        Viewer {
            administrator: self.unrestricted || self.account.as_ref().is_some_and(|account| account.administrator),
            account_id: self.account_id(),
            own_prefix: own.map(|account| format!("{}/", account.name)),
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong name, password or token; which of them is not told.
    #[error("the user name, password or token is wrong")]
    Wrong,
    /// The server is busy with other logins.
    #[error(transparent)]
    TooMany(#[from] TooManyLogins),
    /// The bearer token is not valid.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// Keys could not be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A stored token has a scope that does not parse.
    #[error(transparent)]
    Ceiling(#[from] PatternError),
    /// The database did not answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Turns credentials into principals, and principals into tokens.
pub struct Authenticator {
    store: MetadataStore,
    passwords: Passwords,
    bearer: BearerTokens,
    principals: Kept<Credential, Principal>,
}

impl Authenticator {
    /// An authenticator over the accounts in `store`.
    pub fn new(store: MetadataStore, keys: Arc<SigningKeys>) -> std::io::Result<Self> {
        Ok(Authenticator {
            store,
            passwords: Passwords::new()?,
            bearer: BearerTokens::new(keys),
            principals: Kept::new(1024, 1024, |_, _| 1),
        })
    }

    /// Name and password, or name and personal access token.
    pub async fn basic(&self, name: &str, secret: &str, from: Option<IpAddr>) -> Result<Principal, LoginError> {
        if secret.starts_with(PERSONAL_PREFIX) {
            return match self.personal(name, secret).await? {
                Some(principal) => Ok(principal),
                None => {
                    self.passwords.slow_down(name, from).await;
                    Err(LoginError::Wrong)
                }
            };
        }
        let account = self.store.account(name).await?;
        let right = self.passwords.verify(name, account.as_ref(), secret, from).await?;
        match account {
            Some(account) if right && !account.disabled => {
                let credential = Credential::Password { account_id: account.id, version: account.password_version };
                Ok(Principal { account: Some(account.into()), credential, ..Principal::anonymous() })
            }
            _ => Err(LoginError::Wrong),
        }
    }

    async fn personal(&self, name: &str, secret: &str) -> Result<Option<Principal>, LoginError> {
        let token = self.store.token_by_hash(&secret_hash(secret)).await?;
        let Some(token) = token.filter(|token| token.kind == TokenKind::Personal) else { return Ok(None) };
        let principal = self.principal(&Credential::Token(token.id)).await?;
        let principal = principal.filter(|principal| principal.name() == name);
        if principal.is_some() && stale_use(&token) {
            self.record_use(&token, token.expires_ms).await?;
        }
        Ok(principal)
    }

    /// A refresh token; each use gives it a new 90 days.
    pub async fn refresh(&self, secret: &str, from: Option<IpAddr>) -> Result<Principal, LoginError> {
        let token = self.store.token_by_hash(&secret_hash(secret)).await?;
        let Some(token) = token.filter(|token| token.kind == TokenKind::Refresh && is_current(token)) else {
            self.passwords.slow_down("", from).await;
            return Err(LoginError::Wrong);
        };
        let credential = match (token.source_token_id, token.password_version) {
            (Some(id), _) => Credential::Token(id),
            (None, Some(version)) => Credential::Password { account_id: token.account_id, version },
            (None, None) => return Err(LoginError::Wrong),
        };
        let principal = self.principal(&credential).await?.ok_or(LoginError::Wrong)?;
        if stale_use(&token) {
            self.record_use(&token, Some(now_ms() + as_ms(REFRESH_LIFETIME))).await?;
        }
        Ok(principal)
    }

    async fn record_use(&self, token: &TokenRow, expires_ms: Option<i64>) -> Result<(), LoginError> {
        match self.store.touch_token(token.id, expires_ms).await {
            Err(error) if error.is_full() => Ok(()), // the disk is full: pulls go on all the same
            recorded => Ok(recorded?),
        }
    }

    /// A bearer token.
    pub async fn bearer(&self, token: &str) -> Result<(Principal, Access), LoginError> {
        let verified = self.bearer.verify(token).await?;
        let credential = Credential::from_claim(&verified.claims.credential).ok_or(BearerError::Invalid)?;
        let principal = self.principal(&credential).await?.ok_or(BearerError::Invalid)?;
        if principal.subject() != verified.claims.sub {
            return Err(BearerError::Invalid.into()); // the account has another name now
        }
        Ok((principal, verified.access.clone()))
    }

    /// The principal behind a credential, if it still counts now.
    async fn principal(&self, credential: &Credential) -> Result<Option<Principal>, LoginError> {
        if *credential == Credential::Anonymous {
            return Ok(Some(Principal::anonymous()));
        }
        let generation = self.store.generation();
        if let Some(principal) = self.principals.get(credential, generation) {
            return Ok(Some(principal));
        }
        let (account_id, version, scopes, expires_ms) = match credential {
            Credential::Anonymous => return Ok(None),
            Credential::Password { account_id, version } => (*account_id, Some(*version), String::new(), None),
            Credential::Token(id) => match self.store.token(*id).await?.filter(is_current) {
                Some(token) => (token.account_id, None, token.scopes, token.expires_ms),
                None => return Ok(None),
            },
        };
        let account = self.store.account_by_id(account_id).await?;
        let counts =
            |account: &Account| !account.disabled && version.is_none_or(|version| version == account.password_version);
        let Some(account) = account.filter(counts) else { return Ok(None) };
        let principal = Principal {
            account: Some(account.into()),
            credential: credential.clone(),
            ceiling: Ceiling::parse(&scopes)?.into(),
            unrestricted: false,
        };
        let keep_for = expires_ms
            .map_or(Duration::MAX, |expires| Duration::from_millis(u64::try_from(expires - now_ms()).unwrap_or(0)));
        self.principals.put(credential.clone(), generation, keep_for, principal.clone());
        Ok(Some(principal))
    }

    /// A bearer token for `principal`, allowing `access` at most. Returns it with the time of issue.
    pub async fn issue(&self, principal: &Principal, access: &Access) -> Result<(String, i64), KeyError> {
        self.bearer.issue(principal.subject(), principal.credential.to_claim(), access).await
    }

    /// A refresh token that ends with the credential it comes from. `None`: anonymous.
    pub async fn issue_refresh(&self, principal: &Principal, client: &str) -> Result<Option<String>, LoginError> {
        let (account_id, source_token_id, password_version) = match (&principal.credential, principal.account_id()) {
            (Credential::Token(id), Some(account_id)) => (account_id, Some(*id), None),
            (Credential::Password { account_id, version }, _) => (*account_id, None, Some(*version)),
            (Credential::Anonymous, _) | (Credential::Token(_), None) => return Ok(None),
        };
        let secret = new_secret(REFRESH_PREFIX);
        let token = TokenRow {
            id: 0,
            account_id,
            kind: TokenKind::Refresh,
            name: client.chars().take(64).collect(),
            scopes: String::new(),
            source_token_id,
            password_version,
            created_ms: 0,
            expires_ms: Some(now_ms() + as_ms(REFRESH_LIFETIME)),
            used_ms: None,
        };
        self.store.add_token(&token, &secret_hash(&secret)).await?;
        Ok(Some(secret))
    }
}

fn is_current(token: &TokenRow) -> bool {
    token.expires_ms.is_none_or(|expires| now_ms() < expires)
}

fn stale_use(token: &TokenRow) -> bool {
    token.used_ms.is_none_or(|used| now_ms() - used > as_ms(USE_RECORDED))
}
