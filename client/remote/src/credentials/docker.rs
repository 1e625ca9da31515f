//! Docker's `config.json`, with podman's `auth.json` behind it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_oci::{RegistryName, RepositoryName};

use super::agent::Agent;
use super::entry::{self, Document};
use super::helper::{self, HelperName, Here, Runner};
use super::keys::{is_for_registry, is_whole, key_of, namespaced};
use super::origin::{self, TokenService};
use super::replace::replace;
use super::{Credential, CredentialError, CredentialSource};
use crate::home::home_folder;

/// The files of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialPaths {
    /// Docker's file: read and written.
    pub docker: PathBuf,
    /// podman's files, in the order they are asked: only read.
    pub podman: Vec<PathBuf>,
    /// Where helpers are looked for, in the form of `PATH`; in `PATH` itself where it is `None`.
    pub helpers: Option<OsString>,
}

impl CredentialPaths {
    /// The files of whoever runs this: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, then podman's
    /// `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json` and `$XDG_CONFIG_HOME/containers/auth.json`.
    pub fn of_this_user() -> Result<Self, CredentialError> {
        CredentialPaths::with_docker_in(None)
    }

    /// The same, with docker's file in this folder, whatever the variables say.
    pub fn with_docker_in(folder: Option<&Path>) -> Result<Self, CredentialError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = home_folder();
        let docker = folder
            .map(Path::to_owned)
            .or_else(|| variable("DOCKER_CONFIG"))
            .or_else(|| home.as_ref().map(|home| home.join(".docker")))
            .ok_or(CredentialError::NoHome)?
            .join("config.json");
        let run = variable("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json"));
        let config = variable("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
        let podman = [
            variable("REGISTRY_AUTH_FILE"),
            Some(run.unwrap_or_else(|| "/run/containers/0/auth.json".into())),
            config.map(|config| config.join("containers/auth.json")),
        ];
        Ok(CredentialPaths { docker, podman: podman.into_iter().flatten().collect(), helpers: None })
    }
}

/// Where a credential was stored. A file keeps it unencrypted, of which docker warns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In this file, readable by its owner.
    File(PathBuf),
    /// With the program `docker-credential-NAME`.
    Helper(String),
}

/// Docker's file of credentials as it was when it was loaded.
pub struct DockerConfig {
    paths: CredentialPaths,
    document: Document,
    /// What `DOCKER_AUTH_CONFIG` says; it wins over the files.
    variable: Document,
    /// Cove's own file of where tokens came from.
    tokens: Option<PathBuf>,
    here: Here,
    agent: Option<Arc<Agent>>,
}

/// Docker's variable of credentials (docker ≥ 28.3): JSON with `auths`.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

impl DockerConfig {
    /// Reads docker's file; one that does not exist is empty. Helpers are run by the agent that
    /// [`AGENT_VARIABLE`](super::AGENT_VARIABLE) names, else by this process.
    pub fn load(paths: CredentialPaths) -> Result<Self, CredentialError> {
        let document = read(&paths.docker)?;
        let here = Here { search: paths.helpers.clone() };
        let agent = Agent::of_this_process()?;
        Ok(DockerConfig { paths, document, variable: Document::default(), tokens: None, here, agent })
    }

    /// The same with what belongs to this user besides: `DOCKER_AUTH_CONFIG`, which is only read, and Cove's own file of
    /// where identity tokens came from.
    #[must_use]
    pub fn of_this_user(mut self) -> Self {
        self.tokens = origin::file_of_this_user();
        match std::env::var(VARIABLE) {
            Ok(text) => self.with_variable(&text),
            Err(_) => self,
        }
    }

    /// With the text of `DOCKER_AUTH_CONFIG`. One that cannot be read is told and counts as none, as for docker.
    #[must_use]
    pub fn with_variable(mut self, text: &str) -> Self {
        match entry::read(text.as_bytes(), Path::new(VARIABLE)) {
            Ok(document) => self.variable = document,
            Err(error) => tracing::warn!("{error}"),
        }
        self
    }

    /// Keeps in this file where identity tokens came from.
    #[must_use]
    pub fn with_tokens(mut self, file: PathBuf) -> Self {
        self.tokens = Some(file);
        self
    }

    /// Has the helpers run by this agent.
    #[must_use]
    pub fn with_agent(mut self, agent: Agent) -> Self {
        self.agent = Some(Arc::new(agent));
        self
    }

    /// Docker's file.
    pub fn path(&self) -> &Path {
        &self.paths.docker
    }

    /// Where [`DockerConfig::store`] will put a registry's credential.
    pub fn storage(&self, registry: &RegistryName) -> Result<Stored, CredentialError> {
        Ok(match helper_for(&self.document, registry)? {
            Some(helper) => Stored::Helper(helper.as_str().to_owned()),
            None => Stored::File(self.paths.docker.clone()),
        })
    }

    /// Keeps the credential as the file says: with the registry's helper, the general one, or in the file. What was
    /// kept for the registry before, under older forms of its key too, is replaced.
    pub fn store(&mut self, registry: &RegistryName, credential: &Credential) -> Result<Stored, CredentialError> {
        self.store_from(registry, credential, None)
    }

    /// The same for what a token service gave: an identity token will be sent to that one only.
    pub fn store_from(
        &mut self,
        registry: &RegistryName,
        credential: &Credential,
        service: Option<&TokenService>,
    ) -> Result<Stored, CredentialError> {
        let bound = match (credential, service) {
            (Credential::IdentityToken { token, .. }, Some(service)) => Some((token.as_str(), service)),
            _ => None,
        };
        // A folder that cannot be written to does not keep anybody from logging in.
        if let Some(tokens) = &self.tokens
            && let Err(error) = origin::remember(tokens, registry, bound)
        {
            tracing::warn!("the token is not bound to the service that gave it: {error}");
        }
        let key = key_of(registry);
        let helper = helper_for(&self.document, registry)?;
        let kept_by_helper = match &helper {
            Some(helper) => helper::store(self.runner(), helper, key, credential)?,
            None => false,
        };
        replace(&self.paths.docker, |text, path| {
            let in_file = (!kept_by_helper).then_some(credential);
            let old_form = |other: &str| other != key && is_for_registry(other, registry) && is_whole(other);
            let text = entry::without_entries(text, path, old_form)?.unwrap_or_else(|| text.to_owned());
            entry::with_entry(&text, path, key, in_file).map(Some)
        })?;
        self.document = read(&self.paths.docker)?;
        Ok(match helper.filter(|_| kept_by_helper) {
            Some(helper) => Stored::Helper(helper.as_str().to_owned()),
            None => Stored::File(self.paths.docker.clone()),
        })
    }

    /// Forgets the registry's credential, under all forms of its key; whether there was one. Namespaces of the
    /// registry, which podman writes, stay.
    pub fn erase(&mut self, registry: &RegistryName) -> Result<bool, CredentialError> {
        let remove = |key: &str| is_for_registry(key, registry) && is_whole(key);
        let mut had = false;
        // The file first: a helper that fails must not keep what stands there in plain text.
        let helper = helper_for(&self.document, registry);
        if self.paths.docker.exists() {
            had = replace(&self.paths.docker, |text, path| entry::without_entries(text, path, remove))?;
            self.document = read(&self.paths.docker)?;
        }
        if let Some(tokens) = &self.tokens {
            origin::remember(tokens, registry, None)?;
        }
        if let Some(helper) = helper? {
            had |= helper::erase(self.runner(), &helper, key_of(registry))?;
        }
        Ok(had)
    }

    /// The addresses that docker's file and its helpers have credentials for, as they are written there.
    pub fn addresses(&self) -> Result<BTreeSet<String>, CredentialError> {
        let mut addresses: BTreeSet<String> =
            self.document.auths.iter().flatten().map(|(key, _)| key.clone()).collect();
        addresses.extend(self.document.helpers.iter().flatten().map(|(host, _)| host.clone()));
        if let Some(name) = self.document.store.as_deref().filter(|name| !name.is_empty()) {
            addresses.extend(helper::list(self.runner(), &HelperName::parse(name)?)?.into_keys());
        }
        Ok(addresses)
    }

    fn runner(&self) -> &dyn Runner {
        match &self.agent {
            Some(agent) => &**agent,
            None => &self.here,
        }
    }

    fn look_up(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(found) = self.look_in(&self.variable, Path::new(VARIABLE), registry, repository)? {
            return Ok(Some(found));
        }
        if let Some(found) = self.look_in(&self.document, &self.paths.docker, registry, repository)? {
            return Ok(Some(found));
        }
        for path in &self.paths.podman {
            if *path == self.paths.docker {
                continue;
            }
            let document = match read(path) {
                // root's own file, where we are root of a user namespace only
                Err(CredentialError::File(error)) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                other => other?,
            };
            if let Some(found) = self.look_in(&document, path, registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// One file: the helper it names, the namespaces of the repository, the registry, older forms of its key.
    fn look_in(
        &self,
        document: &Document,
        path: &Path,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credential>, CredentialError> {
        // A variable names no programs to run.
        let helper = if path == Path::new(VARIABLE) { None } else { helper_for(document, registry)? };
        if let Some(helper) = helper
            && let Some(found) = helper::get(self.runner(), &helper, key_of(registry))?
        {
            return Ok(Some(found));
        }
        let Some(auths) = &document.auths else { return Ok(None) };
        let exact = repository.map(|repository| namespaced(registry, repository)).unwrap_or_default();
        let exact = exact.iter().map(String::as_str).chain([key_of(registry)]);
        let by_key = exact.filter_map(|key| auths.get_key_value(key));
        // Older forms: those of the whole registry before those with a path, which docker takes for all of it, and
        // podman for that namespace only.
        let of_docker = path == self.paths.docker;
        let old = || auths.iter().filter(|(key, _)| is_for_registry(key, registry));
        let whole = old().filter(|(key, _)| is_whole(key));
        let partial = old().filter(|(key, _)| of_docker && !is_whole(key));
        for (key, entry) in by_key.chain(whole).chain(partial) {
            if let Some(found) = entry.credential(key, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl CredentialSource for DockerConfig {
    fn token_service(&self, registry: &RegistryName, token: &str) -> Result<Option<TokenService>, CredentialError> {
        match &self.tokens {
            Some(tokens) => origin::find(tokens, registry, token),
            None => Ok(None),
        }
    }

    fn find(&self, registry: &RegistryName) -> Result<Option<Credential>, CredentialError> {
        self.look_up(registry, None)
    }

    fn find_for(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> Result<Option<Credential>, CredentialError> {
        self.look_up(registry, Some(repository))
    }
}

fn read(path: &Path) -> Result<Document, CredentialError> {
    match fs_err::read(path) {
        Ok(text) => entry::read(&text, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::default()),
        Err(error) => Err(error.into()),
    }
}

/// The helper that a file names for a registry: its own, else the general one.
fn helper_for(document: &Document, registry: &RegistryName) -> Result<Option<HelperName>, CredentialError> {
    let key = key_of(registry);
    let own = document.helpers.as_ref().and_then(|helpers| {
        helpers
            .get(key)
            .or_else(|| helpers.iter().find(|(host, _)| is_for_registry(host, registry)).map(|(_, name)| name))
    });
    let name = own.or(document.store.as_ref()).filter(|name| !name.is_empty());
    name.map(|name| HelperName::parse(name)).transpose()
}
