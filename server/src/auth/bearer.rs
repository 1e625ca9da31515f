//! Bearer tokens: JSON Web Tokens that say who, through which credential, and at most what.
//!
//! Source: distribution's "Docker Registry v2 Bearer token specification". Keys come from the database only;
//! `jwk`, `jku`, `x5u` and `x5c` in a token's header are never looked at, and each key verifies with its own
//! algorithm whatever the header says.

use std::sync::Arc;
use std::time::Duration;

use cove_oci::{Action, Actions, RepositoryName, ResourceScope, Scope};
use jsonwebtoken::{Header, Validation, decode, decode_header, encode};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{KeyError, SigningKeys};
use super::secrets::random_hex;
use crate::metadata::now_ms;

/// `service` in the challenge, and `aud` and `iss` of the tokens. Constant, so that a server may have many names.
pub const SERVICE: &str = "cove-server";

/// How long a bearer token lasts. Rights are looked up on every request, so this bounds only how long a token
/// saves its client the way to the token service.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Longest token that is looked at.
const SIZE_LIMIT: usize = 64 * 1024;

/// Why a bearer token is not accepted. What exactly is wrong is nobody's business but the log's.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// Not signed by us, not for us, or not now.
    #[error("the bearer token is not valid: ask the token service for a new one")]
    Invalid,
    /// Keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The content of a bearer token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// Account name; empty: anonymous.
    pub sub: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    access: Vec<AccessEntry>,
    /// The credential that it was bought with, see `Credential`.
    pub credential: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct AccessEntry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// What a bearer token allows at most.
#[derive(Debug, Clone, Default)]
pub struct Access {
    repositories: Vec<ResourceScope>,
    catalog: bool,
}

impl Access {
    /// Access to what `scopes` say.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut access = Access::default();
        for scope in scopes {
            match scope {
                Scope::Repository(scope) => access.repositories.push(scope),
                Scope::Catalog => access.catalog = true,
            }
        }
        access
    }

    /// Whether the token covers `action` on `repository`.
    pub fn covers(&self, repository: &RepositoryName, action: Action) -> bool {
        self.repositories.iter().any(|scope| scope.repository == *repository && scope.actions.contains(action))
    }

    /// Whether the token covers the list of repositories.
    pub fn covers_catalog(&self) -> bool {
        self.catalog
    }

    fn entries(&self) -> Vec<AccessEntry> {
        let repository = |scope: &ResourceScope| AccessEntry {
            kind: "repository".to_owned(),
            name: scope.repository.to_string(),
            actions: scope.actions.iter().map(|action| action.to_string()).collect(),
        };
        let catalog = || AccessEntry { kind: "registry".into(), name: "catalog".into(), actions: vec!["*".into()] };
        self.repositories.iter().map(repository).chain(self.catalog.then(catalog)).collect()
    }

    fn from_entries(entries: &[AccessEntry]) -> Self {
        let mut access = Access::default();
        for entry in entries {
            match entry.kind.as_str() {
                "repository" => {
                    if let Ok(repository) = entry.name.parse() {
                        let actions: Actions = Actions::parse_lenient(&entry.actions.join(","));
                        access.repositories.push(ResourceScope { repository, actions });
                    }
                }
                "registry" if entry.name == "catalog" => access.catalog = true,
                _ => {}
            }
        }
        access
    }
}

/// A verified token.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) claims: Claims,
    pub(super) access: Access,
}

/// Issues and verifies bearer tokens.
pub(super) struct BearerTokens {
    keys: Arc<SigningKeys>,
    /// Tokens whose signature was found right, by hash, with their key: as long as the key counts and the times
    /// do, it need not be looked at again.
    verified: Cache<[u8; 32], (String, Arc<Verified>)>,
}

impl BearerTokens {
    pub(super) fn new(keys: Arc<SigningKeys>) -> Self {
        BearerTokens { keys, verified: Cache::new(4096) }
    }

    /// Signs a token. Returns it with the time of issue in milliseconds.
    pub(super) async fn issue(
        &self,
        subject: &str,
        credential: String,
        access: &Access,
    ) -> Result<(String, i64), KeyError> {
        self.keys.follow().await?;
        let keys = self.keys.current();
        let issued_ms = now_ms();
        let seconds = issued_ms / 1000;
        let claims = Claims {
            iss: SERVICE.to_owned(),
            aud: SERVICE.to_owned(),
            sub: subject.to_owned(),
            exp: seconds + LIFETIME.as_secs() as i64,
            // A client's or another server's clock may be a little behind.
            nbf: seconds - 10,
            iat: seconds,
            jti: random_hex(),
            access: access.entries(),
            credential,
        };
        let mut header = Header::new(keys.signing_algorithm);
        header.kid = Some(keys.signing_id.clone());
        let token = encode(&header, &claims, &keys.signing).map_err(|_| KeyError::Unusable(keys.signing_id.clone()))?;
        Ok((token, issued_ms))
    }

    /// Checks signature, issuer, audience and times.
    pub(super) async fn verify(&self, token: &str) -> Result<Arc<Verified>, BearerError> {
        if token.len() > SIZE_LIMIT {
            return Err(BearerError::Invalid);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((kid, verified)) = self.verified.get(&hash) {
            let now = now_ms() / 1000;
            let timely = verified.claims.nbf <= now && now < verified.claims.exp;
            let counts = timely && self.keys.current().verifying(&kid).is_some();
            return if counts { Ok(verified) } else { Err(BearerError::Invalid) };
        }
        let kid = decode_header(token).ok().and_then(|header| header.kid).ok_or(BearerError::Invalid)?;
        if self.keys.current().verifying(&kid).is_none() {
            self.keys.reload().await?;
        }
        let keys = self.keys.current();
        let key = keys.verifying(&kid).ok_or(BearerError::Invalid)?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&[SERVICE]);
        validation.set_issuer(&[SERVICE]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        let claims = decode::<Claims>(token, &key.key, &validation).map_err(|_| BearerError::Invalid)?.claims;
        let verified = Arc::new(Verified { access: Access::from_entries(&claims.access), claims });
        self.verified.insert(hash, (kid, verified.clone()));
        Ok(verified)
    }
}
