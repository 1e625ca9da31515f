//! Where identity tokens came from: such a token goes back to the token service that gave it, and to no other that a
//! registry may name later.
//!
//! Docker's file has no place for this, and other programs would lose it. So a file of Cove's own, `tokens.json` beside
//! `cove.toml`, keeps for each registry the realm, the service and the SHA-256 of the token that a login gave; the token
//! itself is not in it. Tokens that another program stored are not known here and are not bound.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cove_oci::{Algorithm, Digest, RegistryName};
use serde::{Deserialize, Serialize};

use super::CredentialError;
use super::replace::replace;
use crate::home::home_folder;

/// A token service as a challenge names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenService {
    /// Its address.
    pub realm: String,
    /// For whom it gives tokens.
    pub service: Option<String>,
}

impl fmt::Display for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match url::Url::parse(&self.realm) {
            Ok(realm) => write!(f, "`{}`", crate::ShownUrl::from(&realm))?,
            Err(_) => f.write_str("`…`")?,
        }
        match &self.service {
            Some(service) => write!(f, " (service `{}`)", crate::shown::shortened(service)),
            None => Ok(()),
        }
    }
}

/// What is kept of a login.
#[derive(Serialize, Deserialize)]
struct Record {
    token: String,
    #[serde(flatten)]
    service: TokenService,
}

type Records = BTreeMap<String, Record>;

/// The file of whoever runs this.
pub(super) fn file_of_this_user() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(config.or_else(|| Some(home_folder()?.join(".config")))?.join("cove/tokens.json"))
}

/// Keeps where a registry's token came from; with `None` nothing is known of it any more.
pub(super) fn remember(
    path: &Path,
    registry: &RegistryName,
    token: Option<(&str, &TokenService)>,
) -> Result<(), CredentialError> {
    if token.is_none() && !path.exists() {
        return Ok(());
    }
    replace(path, |text, path| {
        let mut records = read(text, path)?;
        let before = records.remove(registry.as_str());
        match token {
            Some((token, service)) => {
                let record = Record { token: fingerprint(token), service: service.clone() };
                records.insert(registry.to_string(), record);
            }
            None if before.is_none() => return Ok(None),
            None => {}
        }
        serde_json::to_vec_pretty(&records).map(Some).map_err(|error| CredentialError::File(error.into()))
    })?;
    Ok(())
}

/// Where this token of the registry came from, if a login of ours brought it.
pub(super) fn find(path: &Path, registry: &RegistryName, token: &str) -> Result<Option<TokenService>, CredentialError> {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let record = read(&text, path)?.remove(registry.as_str());
    Ok(record.filter(|record| record.token == fingerprint(token)).map(|record| record.service))
}

fn read(text: &[u8], path: &Path) -> Result<Records, CredentialError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Records::new());
    }
    serde_json::from_slice(text).map_err(|error| CredentialError::Syntax {
        path: path.to_owned(),
        line: error.line(),
        reason: "it is not what cove wrote".to_owned(),
    })
}

/// Tokens are long and random: their hash tells nobody anything.
fn fingerprint(token: &str) -> String {
    Digest::of(Algorithm::Sha256, token.as_bytes()).to_string()
}
