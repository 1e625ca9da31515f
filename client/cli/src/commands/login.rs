//! `cove login`: asks for name and password where they are not given, proves them, and keeps what the registry gives.

use std::io::{self, Read};

use cove_oci::RegistryName;
use cove_remote::{Credential, CredentialSource, DockerConfig, Login as Password, Stored};

use super::logout::{registry, shown};
use crate::arguments::Login;
use crate::context::Context;
use crate::error::Error;
use crate::prompt;

/// What docker says where nobody can be asked.
const NO_TERMINAL: &str = "Error: Cannot perform an interactive login from a non TTY device";

/// Logs in to a registry.
pub fn run(context: &Context, arguments: &Login) -> Result<(), Error> {
    let printer = &context.printer;
    if arguments.password.is_some() && arguments.password_stdin {
        return Err(Error::Options("conflicting options: cannot specify both --password and --password-stdin"));
    }
    if arguments.password.is_some() {
        printer.note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if arguments.password_stdin && arguments.username.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::Options("the --password-stdin option requires --username to be set"));
    }
    let registry = registry(context, arguments.server.as_deref())?;
    let given = match arguments.password_stdin {
        true => Some(password_from(io::stdin().lock())?),
        false => arguments.password.clone(),
    };
    // Where nothing can be kept, nobody is asked for a password.
    let mut credentials = context.credentials()?;
    let known = match (&given, &arguments.username) {
        (Some(_), Some(_)) => None,
        _ => known(context, &credentials, &registry),
    };
    // Like docker: what is kept already is tried first, if nothing else is said.
    if given.is_none()
        && arguments.username.is_none()
        && let Some(known) = &known
    {
        printer.note(format!(
            "Authenticating with existing credentials... [Username: {}]",
            known.username().unwrap_or_default()
        ));
        match refusal(context, &registry, known)? {
            None => return Ok(printer.line("Login Succeeded")?),
            Some(reason) => printer.note(format!("Login did not succeed, error: {reason}")),
        }
    }
    let (username, password) =
        match (arguments.username.clone().filter(|name| !name.is_empty()), given.filter(|given| !given.is_empty())) {
            (Some(username), Some(password)) => (username, password),
            (username, password) => ask(context, &registry, username, password, known.as_ref())?,
        };
    let login = Password { username: username.clone(), password: password.clone() };
    let logged_in = context.network(async { Ok(context.client()?.login(&registry, &login).await?) })?;
    let service = logged_in.token_service;
    let credential = match logged_in.identity_token {
        // A token that can be revoked: the password need not be kept at all.
        Some(token) => Credential::IdentityToken { username: Some(username), token },
        None => Credential::Password { username, password },
    };
    if let Stored::File(path) = credentials.store_from(&registry, &credential, service.as_ref())? {
        printer.note(unencrypted(&credential, &path.display().to_string()));
    }
    Ok(printer.line("Login Succeeded")?)
}

/// Docker's warning about secrets in a file.
fn unencrypted(credential: &Credential, path: &str) -> String {
    let kept = match credential {
        Credential::Password { .. } => "Your credentials are stored unencrypted",
        Credential::IdentityToken { .. } | Credential::RegistryToken(_) => {
            "Your login token is stored unencrypted (not your password)"
        }
    };
    format!(
        "\nWARNING! {kept} in '{path}'.\n\
         Configure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n"
    )
}

/// What is kept already. Whoever logs in is about to replace it: that it cannot be read is no reason not to.
fn known(context: &Context, credentials: &DockerConfig, registry: &RegistryName) -> Option<Credential> {
    credentials.find(registry).unwrap_or_else(|error| {
        context.printer.note(format!("The stored credentials are not used: {error}"));
        None
    })
}

/// Why the registry does not take a credential any more; `None` if it does. That it cannot be asked is an error.
fn refusal(context: &Context, registry: &RegistryName, known: &Credential) -> Result<Option<String>, Error> {
    use cove_remote::Error as Remote;
    let tried = context.network(async { Ok(context.client()?.try_credential(registry, known).await?) });
    match tried {
        Ok(()) => Ok(None),
        Err(Error::Remote(
            error @ (Remote::Login { .. } | Remote::Unauthorized { .. } | Remote::OtherTokenService { .. }),
        )) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Asks for what is missing.
fn ask(
    context: &Context,
    registry: &RegistryName,
    username: Option<String>,
    password: Option<String>,
    known: Option<&Credential>,
) -> Result<(String, String), Error> {
    let printer = &context.printer;
    if !printer.terminals().input {
        return Err(Error::Options(NO_TERMINAL));
    }
    let username = match username {
        Some(username) => username,
        None => {
            let usual = known.and_then(Credential::username).unwrap_or_default().to_owned();
            if registry.is_docker_hub() {
                printer.line("Log in with your Docker ID or email address to push and pull images from Docker Hub.")?;
            } else {
                printer.line(format!("Log in to {} to push and pull images.", shown(registry)))?;
            }
            let question = if usual.is_empty() { "Username: ".to_owned() } else { format!("Username ({usual}): ") };
            match prompt::line(context, &question)?.trim() {
                "" if usual.is_empty() => return Err(Error::Options("Error: Non-null Username Required")),
                "" => usual,
                typed => typed.to_owned(),
            }
        }
    };
    let password = match password {
        Some(password) => password,
        None => prompt::password(context, "Password: ")?,
    };
    if password.is_empty() {
        return Err(Error::Options("Error: Password Required"));
    }
    Ok((username, password))
}

/// Longest password that is read.
const LONGEST: u64 = 64 * 1024;

fn password_from(input: impl Read) -> Result<String, Error> {
    let mut password = String::new();
    input.take(LONGEST).read_to_string(&mut password)?;
    // As docker: one line break at the end is not part of the password.
    let trimmed = password.strip_suffix('\n').unwrap_or(&password);
    Ok(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_ends_a_password() {
        for (typed, password) in
            [("secret\n", "secret"), ("secret\r\n", "secret"), (" a b \n\n", " a b \n"), ("x", "x")]
        {
            assert_eq!(password_from(typed.as_bytes()).unwrap(), password);
        }
    }
}
