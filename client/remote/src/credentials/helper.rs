//! Programs that keep credentials: `docker-credential-NAME get|store|erase|list`.
//!
//! Protocol: docker-credential-helpers. The request is the whole of stdin, the answer the whole of stdout; a program
//! that fails tells why on stdout.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialError};

/// What helpers answer where they have nothing (docker-credential-helpers: `ErrCredentialsNotFound`).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The name that stands for "the secret is an identity token".
const TOKEN_USERNAME: &str = "<token>";
/// Most that a helper may answer, in bytes; a token is a few kilobytes.
pub(super) const ANSWER_LIMIT: u64 = 1 << 20;
/// How long a helper may take: it may ask its user for a passphrase.
const PATIENCE: Duration = Duration::from_secs(120);
/// Another time, in seconds.
const PATIENCE_VARIABLE: &str = "COVE_CREDENTIAL_HELPER_TIMEOUT";
/// Most of a helper's complaint that is shown, in characters.
const REASON_LIMIT: usize = 300;

/// A helper's name: the part after `docker-credential-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HelperName(String);

impl HelperName {
    /// Checks the name: it comes from a file, or through the agent's socket, and becomes a program's name.
    pub(super) fn parse(text: &str) -> Result<Self, CredentialError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match !text.is_empty() && text.len() <= 100 && text.bytes().all(good) {
            true => Ok(HelperName(text.to_owned())),
            false => Err(CredentialError::HelperName(text.chars().take(100).collect())),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a helper can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verb {
    Get,
    Store,
    Erase,
    List,
}

impl Verb {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Store => "store",
            Verb::Erase => "erase",
            Verb::List => "list",
        }
    }
}

/// How a helper ended.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) succeeded: bool,
    pub(super) output: String,
}

/// Where helpers are run: here, or by the process outside of our user namespace.
pub(super) trait Runner {
    fn run(&self, helper: &HelperName, verb: Verb, input: &str) -> Result<Answer, CredentialError>;
}

/// Runs helpers as children of this process.
#[derive(Default)]
pub(super) struct Here {
    /// Where they are looked for, in the form of `PATH`; in `PATH` itself where it is not set.
    pub(super) search: Option<OsString>,
}

impl Runner for Here {
    fn run(&self, helper: &HelperName, verb: Verb, input: &str) -> Result<Answer, CredentialError> {
        let missing = |source| CredentialError::HelperMissing { helper: helper.0.clone(), source };
        let mut command = Command::new(format!("docker-credential-{}", helper.0));
        command.arg(verb.as_str()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(search) = &self.search {
            command.env("PATH", search); // a PATH that is set for the child is searched for the program too
        }
        let mut child = command.spawn().map_err(missing)?;
        let (limit, start) = (patience(), Instant::now());
        match converse(&mut child, input, limit) {
            Some(Ok((status, output))) => {
                Ok(Answer { succeeded: status.success(), output: String::from_utf8_lossy(&output).into_owned() })
            }
            Some(Err(error)) => Err(error.into()),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = start.elapsed().as_secs();
                Err(CredentialError::HelperSilent { helper: helper.0.clone(), verb: verb.as_str(), seconds })
            }
        }
    }
}

fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(PATIENCE, Duration::from_secs)
}

/// Gives a helper its input, and waits for its answer and its end. `None`: it takes longer than `limit`.
fn converse(child: &mut Child, input: &str, limit: Duration) -> Option<io::Result<(ExitStatus, Vec<u8>)>> {
    let start = Instant::now();
    let (stdin, stdout, input) = (child.stdin.take(), child.stdout.take(), input.to_owned());
    let (sender, answer) = sync_channel(1);
    // On a thread of its own, which is left alone if the helper, or what it has started, never lets go.
    std::thread::spawn(move || {
        let talk = || {
            // A helper may answer without reading its input: a broken pipe is not our error.
            match stdin.map(|mut stdin| stdin.write_all(input.as_bytes())) {
                Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(ANSWER_LIMIT).read_to_end(&mut output)?;
            }
            Ok(output)
        };
        let _ = sender.send(talk());
    });
    let output = match answer.recv_timeout(limit).ok()? {
        Ok(output) => output,
        Err(error) => return Some(Err(error)),
    };
    while start.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return Some(Ok((status, output))),
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
struct Store<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// The credential that a helper has for an address.
pub(super) fn get(
    runner: &dyn Runner,
    helper: &HelperName,
    address: &str,
) -> Result<Option<Credential>, CredentialError> {
    let answer = runner.run(helper, Verb::Get, address)?;
    if !answer.succeeded {
        return match answer.output.trim() == NOT_FOUND {
            true => Ok(None),
            false => Err(failed(helper, Verb::Get, &answer)),
        };
    }
    let got: Got = serde_json::from_str(&answer.output).map_err(|_| CredentialError::Helper {
        helper: helper.0.clone(),
        verb: Verb::Get.as_str(),
        reason: "its answer is not the JSON of a credential".to_owned(),
    })?;
    Ok(match (got.username.as_str(), got.secret.is_empty()) {
        (TOKEN_USERNAME, false) => Some(Credential::IdentityToken { username: None, token: got.secret }),
        ("", _) | (TOKEN_USERNAME, true) => None,
        _ => Some(Credential::Password { username: got.username, password: got.secret }),
    })
}

/// Gives a credential to a helper; `false` if the protocol has no form for it (a registry token).
pub(super) fn store(
    runner: &dyn Runner,
    helper: &HelperName,
    address: &str,
    credential: &Credential,
) -> Result<bool, CredentialError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password.as_str()),
        Credential::IdentityToken { token, .. } => (TOKEN_USERNAME, token.as_str()),
        Credential::RegistryToken(_) => return Ok(false),
    };
    let input = serde_json::to_string(&Store { server: address, username, secret })
        .map_err(|error| CredentialError::File(error.into()))?;
    let answer = runner.run(helper, Verb::Store, &input)?;
    if answer.succeeded { Ok(true) } else { Err(failed(helper, Verb::Store, &answer)) }
}

/// Removes what a helper has for an address; whether it had something, as far as it tells.
pub(super) fn erase(runner: &dyn Runner, helper: &HelperName, address: &str) -> Result<bool, CredentialError> {
    let answer = runner.run(helper, Verb::Erase, address)?;
    match answer.succeeded {
        true => Ok(true),
        false if answer.output.trim() == NOT_FOUND => Ok(false),
        false => Err(failed(helper, Verb::Erase, &answer)),
    }
}

/// The addresses a helper knows, each with its account.
pub(super) fn list(runner: &dyn Runner, helper: &HelperName) -> Result<BTreeMap<String, String>, CredentialError> {
    let answer = runner.run(helper, Verb::List, "unused")?;
    if !answer.succeeded {
        return Err(failed(helper, Verb::List, &answer));
    }
    serde_json::from_str(&answer.output).map_err(|_| CredentialError::Helper {
        helper: helper.0.clone(),
        verb: Verb::List.as_str(),
        reason: "its answer is not a JSON object of addresses".to_owned(),
    })
}

fn failed(helper: &HelperName, verb: Verb, answer: &Answer) -> CredentialError {
    let line = answer.output.trim().lines().next().unwrap_or("it ended without a message");
    let reason = line.chars().filter(|character| !character.is_control()).take(REASON_LIMIT).collect();
    CredentialError::Helper { helper: helper.0.clone(), verb: verb.as_str(), reason }
}
