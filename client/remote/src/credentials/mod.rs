//! Who we are at a registry: docker's and podman's files of credentials, and the programs that keep them.
//!
//! [`DockerConfig`] reads and writes `config.json` as docker does, so that both can be used in turn; podman's
//! `auth.json` is read where docker's file has nothing. Secrets appear in no `Debug` output, no error and no log.

mod agent;
mod docker;
mod entry;
mod helper;
mod keys;
mod origin;
mod replace;

use std::fmt;
use std::path::PathBuf;

use cove_oci::{RegistryName, RepositoryName};

pub use agent::{AGENT_VARIABLE, Agent, AgentServer};
pub use docker::{CredentialPaths, DockerConfig, Stored};
pub use origin::TokenService;

/// What proves to a registry who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password, or a personal access token in its place.
    Password {
        /// The account.
        username: String,
        /// Its password.
        password: String,
    },
    /// A refresh token of the registry's token service: sent as `grant_type=refresh_token`. A service that knows no such
    /// form (400, 404, 405) is asked by GET with the token as the password, as containerd does and docker does not: some
    /// cloud registries take it in no other way.
    IdentityToken {
        /// The account it was given to, where known.
        username: Option<String>,
        /// The token.
        token: String,
    },
    /// A bearer token that is sent to the registry as it is.
    RegistryToken(String),
}

impl Credential {
    /// The account, where known.
    pub fn username(&self) -> Option<&str> {
        match self {
            Credential::Password { username, .. } => Some(username),
            Credential::IdentityToken { username, .. } => username.as_deref(),
            Credential::RegistryToken(_) => None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Credential::Password { .. } => "Password",
            Credential::IdentityToken { .. } => "IdentityToken",
            Credential::RegistryToken(_) => "RegistryToken",
        };
        f.debug_struct(kind).field("username", &self.username()).finish_non_exhaustive()
    }
}

/// Where a client looks for the credential of a registry.
///
/// An answer may take long: a program may be run that asks its user. Call it off the async threads.
pub trait CredentialSource: Send + Sync {
    /// The credential for the registry as a whole.
    fn find(&self, registry: &RegistryName) -> Result<Option<Credential>, CredentialError>;

    /// Which token service gave this identity token, where that is known: it must not be sent to another one.
    fn token_service(&self, registry: &RegistryName, token: &str) -> Result<Option<TokenService>, CredentialError> {
        let _ = (registry, token);
        Ok(None)
    }

    /// The credential for one repository: podman's file may have one for a namespace of the registry. Prefer this
    /// where a repository is known.
    fn find_for(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> Result<Option<Credential>, CredentialError> {
        let _ = repository;
        self.find(registry)
    }
}

/// Knows no credentials: everything is asked for anonymously.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn find(&self, _: &RegistryName) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

/// Why a credential could not be found, stored or erased. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not JSON, or a part of it has another type than docker gives it.
    #[error("`{path}` cannot be read: {reason} at line {line}: repair the file or move it away, nothing was changed", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong there, without the text itself.
        reason: String,
    },
    /// An entry's `auth` is not the base64 of `user:password`.
    #[error("`{path}`: `auth` of `{key}` is not base64 of `user:password`: log in to that registry again", path = path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The key under `auths`.
        key: String,
    },
    /// A program's name that could lead out of the search path.
    #[error(
        "`{0}` is not the name of a credential helper: use letters, digits, `.`, `_` and `-`, as in `pass` for `docker-credential-pass`"
    )]
    HelperName(String),
    /// The program could not be started.
    #[error(
        "`docker-credential-{helper}` cannot be run ({source}): install it, or remove it from `credsStore` and `credHelpers`"
    )]
    HelperMissing {
        /// The helper's name.
        helper: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program does not answer.
    #[error(
        "`docker-credential-{helper} {verb}` has not answered for {seconds} s: run it by hand to see what it waits for, or give it longer with `COVE_CREDENTIAL_HELPER_TIMEOUT`"
    )]
    HelperSilent {
        /// The helper's name.
        helper: String,
        /// What it was asked.
        verb: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The program said no.
    #[error(
        "`docker-credential-{helper} {verb}` failed: {reason}: run it by hand, or remove it from `credsStore` and `credHelpers`"
    )]
    Helper {
        /// The helper's name.
        helper: String,
        /// What it was asked.
        verb: &'static str,
        /// The first line it answered.
        reason: String,
    },
    /// The process that runs helpers for us does not answer as it should.
    #[error("the process that runs credential helpers outside of the user namespace does not answer: {0}")]
    Agent(std::io::Error),
    /// Neither DOCKER_CONFIG nor HOME nor the user's entry in `/etc/passwd` says where the file lies.
    #[error("there is no place for credentials: set HOME or DOCKER_CONFIG, or use --config")]
    NoHome,
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_secrets() {
        for credential in [
            Credential::Password { username: "alice".into(), password: "s3cret".into() },
            Credential::IdentityToken { username: Some("alice".into()), token: "s3cret".into() },
            Credential::RegistryToken("s3cret".into()),
        ] {
            assert!(!format!("{credential:?} {credential:#?}").contains("s3cret"));
        }
    }
}
