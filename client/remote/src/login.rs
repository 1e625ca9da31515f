//! Logging in: are a user name and a password good, and is there a token to keep in their place?

use std::fmt;

use cove_oci::RegistryName;
use http::Method;

use crate::authorization::{Ask, Scheme, Scopes};
use crate::credentials::{Credential, TokenService};
use crate::endpoint::{Request, Sending};
use crate::{Client, Error};

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
    /// Who gave it.
    pub token_service: Option<TokenService>,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.identity_token.is_some() { "LoggedIn(with a token)" } else { "LoggedIn" })
    }
}

impl Client {
    /// Tries a user name and a password at a registry.
    pub async fn login(&self, registry: &RegistryName, login: &Login) -> Result<LoggedIn, Error> {
        let credential = Credential::Password { username: login.username.clone(), password: login.password.clone() };
        self.prove(registry, credential, true).await
    }

    /// Tries a credential that is kept already. It was refused where the error's kind is `Unauthorized`; everything else
    /// is a failure to ask.
    pub async fn try_credential(&self, registry: &RegistryName, credential: &Credential) -> Result<(), Error> {
        self.prove(registry, credential.clone(), false).await.map(|_| ())
    }

    /// `offline`: a token to keep is wanted.
    async fn prove(&self, registry: &RegistryName, credential: Credential, offline: bool) -> Result<LoggedIn, Error> {
        let is_bearer = matches!(credential, Credential::RegistryToken(_));
        let host = self.home(registry).await?;
        let endpoint = self.endpoint_with(registry, host, credential).ready().await;
        let request = Request::new(Method::GET, endpoint.host.base.clone(), &Scopes::default());
        // Docker's login asks the token service first and the registry with the token afterwards; so do we.
        let challenge = endpoint.retry(None, || endpoint.challenge(&request)).await?;
        let (mut identity_token, mut token_service) = (None, None);
        if let Some(Scheme::Bearer { realm, service, .. }) = &challenge
            && !is_bearer
        {
            let ask = Ask { realm, service: service.as_deref(), scopes: &[], offline };
            let granted = endpoint.fetch_token(&ask).await?;
            identity_token = granted.refresh_token.map(|token| token.expose().to_owned());
            token_service = identity_token.is_some().then(|| ask.token_service());
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
        Ok(LoggedIn { identity_token, token_service })
    }
}
