//! From the options of `run` and `create` to a container.

use std::io::Write;

use cove_container::check::Kernel;
use cove_container::config::NetworkMode;
use cove_container::events::Event;
use cove_container::spec::refuse_limits;
use cove_container::{Container, ContainerId, Record, RootFolder, Volumes};
use cove_engine::{Found, Image, Store, user_namespace};
use time::OffsetDateTime;

use crate::arguments::Create;
use crate::commands::pull;
use crate::context::Context;
use crate::error::Error;
use crate::options::{self, Pull};

/// Makes a container; `detached`: of a `run` in the background.
pub fn create(context: &Context, arguments: &Create, detached: bool) -> Result<(Container, Record), Error> {
    arguments.check_before_image()?;
    let id_file = arguments.options.cidfile.as_deref().map(IdFile::reserve).transpose()?;
    let store = context.store()?;
    let found = image(context, &store, arguments)?;
    let requested = options::request(arguments, detached, &found.image.config().document().config, &Kernel::read())?;
    if user_namespace::is_own() {
        refuse_limits(&requested.host_config)?;
    }
    for warning in &requested.warnings {
        context.printer.note(format!("WARNING: {warning}"));
    }
    let id = ContainerId::random().map_err(Error::Io)?;
    let mut config = requested.config;
    if config.hostname.is_empty() {
        config.hostname = match requested.host_config.network_mode {
            NetworkMode::Host => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ => id.short().to_owned(),
        };
    }
    let mut host_config = requested.host_config;
    host_config.links = super::links::kept(context, &host_config.links)?;
    let volumes = Volumes::new(&context.places().root);
    let resolved = volumes.resolve(&config, &host_config, &context.containers())?;
    // Until its record is there nobody knows that the image is needed.
    let hold = store.hold()?;
    let image = store.image(found.image.id())?.ok_or_else(|| no_such_image(&found))?;
    let record = Record {
        id,
        name: arguments.name.clone().unwrap_or_default().trim_start_matches('/').to_owned(),
        created: OffsetDateTime::now_utc(),
        image: image.id().to_string(),
        platform: image.config().platform().to_string(),
        layers: layers(context, &image)?,
        user_attributes: store.has_user_attributes(),
        root: image.root_layer().map(RootFolder::of).transpose().map_err(Error::Io)?.unwrap_or_default(),
        mounts: resolved.mounts,
        config,
        host_config,
        endpoints: requested.endpoints,
    };
    let container = context.containers().create(record)?;
    drop((hold, resolved.holds));
    let record = container.record()?;
    if let Err(error) = volumes.seed(&record) {
        let _lock = container.lock_exclusive();
        let _ = context.containers().remove(&container);
        let _ = volumes.remove_anonymous(&record, &context.containers());
        return Err(error.into());
    }
    context.tell(&Event::of_container(&record, "create", &[]));
    if let Some(id_file) = id_file {
        id_file.write(&record.id)?;
    }
    Ok((container, record))
}

/// The image: as it is here, or pulled.
fn image(context: &Context, store: &Store, arguments: &Create) -> Result<Found, Error> {
    let (name, platform) = (arguments.image(), arguments.platform()?);
    let defaults = context.defaults()?;
    let find = || store.find(name, &defaults);
    let pull_now = || pull::for_container(context, name, platform.clone(), arguments.quiet);
    match arguments.pull()? {
        Pull::Always => pull_now()?,
        Pull::Missing => match find() {
            Ok(found) if platform.as_ref().is_none_or(|wanted| wanted.is(&found.image.config().platform())) => {
                return Ok(found);
            }
            Ok(_) => pull_now()?,
            Err(cove_engine::Error::NoSuchImage(_)) => {
                let named = context.reference(name)?.or_latest();
                context.printer.note(format!("Unable to find image '{}' locally", named.familiar()));
                pull_now()?;
            }
            Err(error) => return Err(error.into()),
        },
        Pull::Never => {}
    }
    Ok(find()?)
}

fn no_such_image(found: &Found) -> cove_engine::Error {
    cove_engine::Error::NoSuchImage(found.image.id().to_string())
}

/// The folders below the container's changes, lowest first. The lowest one has what every container needs: images
/// without `/etc`, or without layers, are no special case.
fn layers(context: &Context, image: &Image) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut layers = vec![context.containers().base_layer()?];
    layers.extend(image.layer_folders());
    Ok(layers)
}

/// `--cidfile`: the file is made before anything else, so that two containers never share one.
struct IdFile {
    file: std::fs::File,
    path: std::path::PathBuf,
    is_written: bool,
}

impl IdFile {
    fn reserve(path: &std::path::Path) -> Result<Self, Error> {
        match std::fs::File::create_new(path) {
            Ok(file) => Ok(Self { file, path: path.to_owned(), is_written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::IdFile(path.to_owned())),
            Err(source) => Err(Error::NewIdFile { path: path.to_owned(), source }),
        }
    }

    fn write(mut self, id: &ContainerId) -> Result<(), Error> {
        self.file.write_all(id.as_str().as_bytes()).map_err(Error::Io)?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
