//! Logging in: are a user name and a password good, and is there a token to keep in their place?

use std::fmt;

use cove_oci::RegistryName;
use http::Method;

use crate::authorization::{Ask, Scheme, Scopes};
use crate::credentials::Credential;
use crate::endpoint::{Request, Sending};
use crate::{Access, Client, Error};

/// A user name and a password, or an access token in its place.
#[derive(Clone)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.username)
    }
}

/// What a login gave.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// A token to keep in place of the password, where the registry gives one.
    pub identity_token: Option<String>,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.identity_token.is_some() { "LoggedIn(with a token)" } else { "LoggedIn" })
    }
}

impl Client {
    /// Tries a user name and a password at a registry.
    pub async fn login(&self, registry: &RegistryName, login: &Login) -> Result<LoggedIn, Error> {
        let (username, password) = (login.username.clone(), login.password.clone());
        self.try_credential(registry, Credential::Password { username, password }).await
    }

    /// Tries what is kept for a registry.
    pub async fn try_credential(&self, registry: &RegistryName, credential: Credential) -> Result<LoggedIn, Error> {
        // With a token in hand another one is not wanted.
        let offline = matches!(credential, Credential::Password { .. });
        let is_for_the_realm = !matches!(credential, Credential::RegistryToken(_));
        let host = self.origin(registry, Access::Pull)?;
        let endpoint = self.endpoint_with(registry, host, credential).ready().await;
        let request = Request::new(Method::GET, endpoint.host.base.clone(), &Scopes::default());
        // Docker's login asks the token service first and the registry with the token afterwards; so do we.
        let challenge = endpoint.retry(None, || endpoint.challenge(&request)).await?;
        let mut identity_token = None;
        if let Some(Scheme::Bearer { realm, service, .. }) = challenge.as_ref().filter(|_| is_for_the_realm) {
            let ask = Ask { realm, service: service.as_deref(), scopes: &[], offline };
            let granted = endpoint.fetch_token(&ask).await?;
            identity_token = granted.refresh_token.map(|token| token.expose().to_owned());
        }
        let answer = endpoint.retry(None, || endpoint.attempt(&request, Sending::default())).await.map_err(
            |error| match error {
                Error::Unauthorized { url, registry, .. } => {
                    let reason = "unauthorized: incorrect username or password".to_owned();
                    Error::Login { url, registry, reason }
                }
                error => error,
            },
        )?;
        if !answer.status().is_success() {
            return Err(answer.refusal(&Method::GET).await);
        }
        Ok(LoggedIn { identity_token })
    }
}
