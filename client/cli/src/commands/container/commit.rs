//! `cove commit`

use std::path::PathBuf;

use cove_container::protocol::Message;
use cove_container::{Container, Record, Status, config};
use cove_engine::{CommitRequest, Image, apply_changes, user_namespace};
use cove_oci::{Digest, Empty, Healthcheck, Reference, RunConfig};
use signal_hook::iterator::{Handle, Signals};

use crate::arguments::Commit;
use crate::containers::{ask, made};
use crate::context::Context;
use crate::error::Error;

/// Makes an image of what a container has changed, and prints its id.
pub fn run(context: &Context, arguments: &Commit) -> Result<(), Error> {
    let text = arguments.reference.as_deref().filter(|text| !text.is_empty());
    let reference = text.map(|text| context.reference(text)).transpose()?.map(Reference::or_latest);
    if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        return Err(Error::Options("refusing to create a tag with a digest reference"));
    }
    let container = super::find(context, &arguments.container)?;
    let _lock = container.lock_shared()?;
    let record = container.record()?;
    let mut config = run_config(&record.config);
    apply_changes(&mut config, &arguments.change)?;
    let store = context.store()?;
    let absent = || cove_engine::Error::NoSuchImage(record.image.clone());
    let id: Digest = record.image.parse().map_err(|_| absent())?;
    let parent = store.image(&id)?.ok_or_else(absent)?;
    let can_pause = !user_namespace::is_own();
    if arguments.pause && !can_pause && container.state()?.0.status == Status::Running {
        context.printer.note("WARNING: the container runs on while it is committed: an ordinary user cannot pause it");
    }
    let paused = if arguments.pause && can_pause { Paused::begin(&container)? } else { None };
    let image = store.commit(CommitRequest {
        parent: &parent,
        upper: &container.changes(),
        between: &between(&record, &parent),
        made: made(&record),
        config,
        command: &record.config.cmd,
        author: arguments.author.clone().unwrap_or_default(),
        message: arguments.message.clone().unwrap_or_default(),
        created: None,
        reference: reference.as_ref(),
    });
    drop(paused);
    Ok(context.printer.line(image?.id().to_string())?)
}

/// The layers that are the runtime's and not the image's, topmost first.
fn between(record: &Record, image: &Image) -> Vec<PathBuf> {
    let own = image.layer_folders();
    record.layers.iter().rev().filter(|folder| !own.contains(folder)).cloned().collect()
}

/// A container that stands still until this is dropped, also if somebody ends us.
struct Paused<'a> {
    container: &'a Container,
    signals: Handle,
}

impl<'a> Paused<'a> {
    /// `None`: it does not run, or somebody else lets it stand still.
    fn begin(container: &'a Container) -> Result<Option<Self>, Error> {
        if container.state()?.0.status != Status::Running {
            return Ok(None);
        }
        let mut signals = Signals::new([libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM])?;
        let paused = Self { container, signals: signals.handle() };
        let other = container.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _ = ask(&other, &Message::Unpause);
                std::process::exit(128 + signal);
            }
        })?;
        match ask(container, &Message::Pause) {
            Ok(true) => Ok(Some(paused)),
            // It has ended, or somebody was quicker.
            Ok(false) | Err(Error::Refused(_)) => {
                paused.signals.close();
                std::mem::forget(paused);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = ask(self.container, &Message::Unpause);
        self.signals.close();
    }
}

/// What an image keeps of how a container is run.
fn run_config(config: &config::Config) -> RunConfig {
    let list = |words: &[String]| Some(words.to_vec()).filter(|words| !words.is_empty());
    let set = |set: &std::collections::BTreeMap<String, config::Empty>| {
        set.keys().map(|key| (key.clone(), Empty {})).collect()
    };
    RunConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        healthcheck: config.healthcheck.as_ref().map(healthcheck),
        args_escaped: config.args_escaped,
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: list(&config.shell),
    }
}

fn healthcheck(check: &config::HealthConfig) -> Healthcheck {
    let number = |number: i64| Some(number).filter(|number| *number != 0);
    Healthcheck {
        test: Some(check.test.clone()).filter(|test| !test.is_empty()),
        interval: number(check.interval),
        timeout: number(check.timeout),
        start_period: number(check.start_period),
        start_interval: number(check.start_interval),
        retries: number(check.retries),
    }
}
