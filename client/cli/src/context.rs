//! What every command is given: the printer, and the configuration, store and client, each opened when it is needed.

use std::path::PathBuf;
use std::sync::Arc;

use cove_oci::{Reference, ReferenceDefaults};
use cove_remote::{ConfigPaths, CredentialPaths, DockerConfig, Registries};

use crate::arguments::Global;
use crate::error::Error;
use crate::printer::Printer;

/// What commands work with.
pub struct Context {
    /// Writes what they have to say.
    pub printer: Arc<Printer>,
    config: Option<PathBuf>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) run: Option<PathBuf>,
}

impl Context {
    /// The context that the global options describe.
    pub fn new(printer: Arc<Printer>, global: &Global) -> Self {
        Context { printer, config: global.config.clone(), root: global.root.clone(), run: global.run.clone() }
    }

    /// What is configured of registries.
    pub fn registries(&self) -> Result<Registries, Error> {
        Ok(Registries::load(&ConfigPaths::of_this_user())?)
    }

    /// What stands for the parts of a name that are left out.
    pub fn defaults(&self) -> Result<ReferenceDefaults, Error> {
        Ok(ReferenceDefaults { registry: self.registries()?.default_registry() })
    }

    /// Reads the name of an image.
    pub fn reference(&self, text: &str) -> Result<Reference, Error> {
        Ok(Reference::parse(text, &self.defaults()?)?)
    }

    /// The credentials of this user, from `--config`, `DOCKER_CONFIG` or `~/.docker`.
    pub fn credentials(&self) -> Result<DockerConfig, Error> {
        let mut paths = CredentialPaths::of_this_user()?;
        if let Some(config) = &self.config {
            paths.docker = config.join("config.json");
        }
        Ok(DockerConfig::load(paths)?)
    }
}
