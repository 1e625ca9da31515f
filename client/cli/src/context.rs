//! What every command is given: the printer, and the configuration, store and client, each opened when it is needed.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use cove_container::events::{Event, Events};
use cove_container::{Containers, Volumes};
use cove_engine::{Places, Store};
use cove_oci::{Reference, ReferenceDefaults};
use cove_remote::{
    Client, ConfigPaths, CredentialError, CredentialPaths, CredentialSource, DockerConfig, NoCredentials, Registries,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Global;
use crate::commands::VERSION;
use crate::error::Error;
use crate::printer::Printer;
use crate::settings;

/// What commands work with.
pub struct Context {
    /// Writes what they have to say.
    pub printer: Arc<Printer>,
    /// Whether `--debug` was given.
    pub debug: bool,
    config: Option<PathBuf>,
    root: Option<PathBuf>,
    run: Option<PathBuf>,
}

impl Context {
    /// The context that the global options describe.
    pub fn new(printer: Arc<Printer>, global: &Global) -> Self {
        Context {
            printer,
            debug: global.debug,
            config: global.config.clone(),
            root: global.root.clone(),
            run: global.run.clone(),
        }
    }

    /// A context with nothing but the store's places: for completion.
    pub fn bare(root: Option<PathBuf>, run: Option<PathBuf>) -> Self {
        Context { printer: Arc::new(Printer::standard()), debug: false, config: None, root, run }
    }

    /// The same, with results on stderr: for a command that is part of another one.
    pub fn beside(&self) -> Self {
        Context {
            printer: Arc::new(Printer::beside()),
            debug: self.debug,
            config: self.config.clone(),
            root: self.root.clone(),
            run: self.run.clone(),
        }
    }

    /// The containers of this user.
    pub fn containers(&self) -> Containers {
        let places = self.places();
        Containers::new(&places.root, &places.run)
    }

    /// The volumes of this user.
    pub fn volumes(&self) -> Volumes {
        Volumes::new(&self.places().root)
    }

    /// What has happened.
    pub fn events(&self) -> Events {
        Events::new(&self.places().run)
    }

    /// Writes down what has happened.
    pub fn tell(&self, event: &Event) {
        self.events().tell(event);
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
        let paths = CredentialPaths::with_docker_in(self.config.as_deref())?;
        Ok(DockerConfig::load(paths)?.of_this_user())
    }

    /// The same for whoever only reads: without a place for credentials there are none.
    fn credential_source(&self) -> Result<Arc<dyn CredentialSource>, Error> {
        match self.credentials() {
            Ok(credentials) => Ok(Arc::new(credentials)),
            Err(Error::Credentials(CredentialError::NoHome)) => Ok(Arc::new(NoCredentials)),
            Err(error) => Err(error),
        }
    }

    /// Where the store lies.
    pub fn places(&self) -> Places {
        let mut places = Places::of_this_user();
        if let Some(root) = &self.root {
            places.root.clone_from(root);
            // What runs from another root has nothing to do with the usual one.
            places.run = root.join("run");
        }
        if let Some(run) = &self.run {
            places.run.clone_from(run);
        }
        places
    }

    /// The store of images.
    pub fn store(&self) -> Result<Store, Error> {
        let limits = settings::unpack_limits(&ConfigPaths::of_this_user())?;
        Ok(Store::open(self.places())?.with_limits(limits))
    }

    /// The store, if there is one: for what must not make it.
    pub fn store_if_there(&self) -> Result<Option<Store>, Error> {
        if self.places().root.is_dir() { self.store().map(Some) } else { Ok(None) }
    }

    /// The client of registries.
    pub fn client(&self) -> Result<Client, Error> {
        let user_agent = format!("cove/{VERSION}");
        Ok(Client::new(self.registries()?, self.credential_source()?, &user_agent)?)
    }

    /// Runs what needs the network, or waits for somebody. Only then is there a runtime: other commands start quicker
    /// without. Ctrl-C and a request to end drop what runs, so that terminals and files are left in order.
    pub fn network<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let mut hang_up = signal(SignalKind::hangup())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut quit = signal(SignalKind::quit())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                result = work => result,
                _ = hang_up.recv() => Err(Error::Interrupted { signal: 1 }),
                _ = interrupt.recv() => Err(Error::Interrupted { signal: 2 }),
                _ = quit.recv() => Err(Error::Interrupted { signal: 3 }),
                _ = terminate.recv() => Err(Error::Interrupted { signal: 15 }),
            }
        });
        // Work on other threads may be in the middle of a layer: nobody waits for it.
        runtime.shutdown_background();
        result
    }
}
