//! `cove-server`: opens the state, makes the administrator at first start, serves until it is told to stop.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{CommandError, Outcome, open_blobs, open_store};
use crate::auth::{hash_password, random_password};
use crate::collector;
use crate::listen::{self, Tls};
use crate::metadata::MetadataStore;
use crate::pulls;
use crate::routes::router;
use crate::settings::{LogFormat, Settings};
use crate::state::{Behaviour, Server};

/// The first administrator.
const ADMINISTRATOR: &str = "admin";

pub(super) async fn serve(settings: Settings) -> Outcome {
    start_log(&settings)?;
    for line in settings.to_string().lines().filter(|line| !line.starts_with('#')) {
        tracing::debug!("setting: {line}");
    }
    raise_descriptor_limit();
    let _lock = lock_database(&settings)?;
    let blobs = open_blobs(&settings, true)?;
    let store = open_store(&settings).await?;
    store.repair_generation()?;
    let tls = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    let address = settings.listen();
    let listener = TcpListener::bind(address).await.map_err(|error| CommandError::Listen { address, error })?;
    let address = listener.local_addr()?;
    let password = make_administrator(&settings, &store).await?;
    let behaviour = Behaviour {
        no_auth: settings.no_auth(),
        sparse_images: settings.sparse_images(),
        public_url: settings.public_url()?,
        trusted_proxies: settings.trusted_proxy.clone(),
        idle_timeout: settings.idle_timeout(),
    };
    let server = Server::new(store.clone(), blobs, behaviour).await?;
    let collecting = tokio::spawn(collector::run(server.clone(), settings.upload_expiry(), settings.gc_grace()));
    let counting = tokio::spawn(pulls::run(server.clone()));
    let stop = stop_on_signal()?;
    greet(&settings, address, password.as_deref())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{address}");

    let (idle, limit) = (settings.idle_timeout(), settings.stop_timeout());
    let deadline = listen::serve(listener, router(server.clone()), tls, idle, stop, limit).await;
    let cut_off = server.drain(deadline).await;
    if cut_off > 0 {
        tracing::warn!(cut_off, "uploads were still being written; clients can go on with what was recorded");
    }
    collecting.abort();
    counting.abort();
    pulls::write(&server).await;
    store.close().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn start_log(settings: &Settings) -> Result<(), CommandError> {
    let filter = settings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| CommandError::Refused(format!("--log `{filter}` is not a log filter: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let format = settings.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
    }
    Ok(())
}

/// Every connection and every blob on its way takes a descriptor; the usual soft limit of 1,024 is for programs that
/// use `select`.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// SQLite has one server. Commands beside it do not take this lock.
fn lock_database(settings: &Settings) -> Result<Option<File>, CommandError> {
    let url = settings.database();
    let Some(path) = url.strip_prefix("sqlite://") else { return Ok(None) };
    let path = std::path::Path::new(path);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder)?;
    }
    let lock = path.with_added_extension("lock");
    let file = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(&lock)?.into_parts().0;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(CommandError::InUse(path.display().to_string())),
    }
}

/// At the first start. Returns the password if it was made up here.
async fn make_administrator(settings: &Settings, store: &MetadataStore) -> Result<Option<String>, CommandError> {
    if settings.no_auth() || !store.accounts().await?.is_empty() {
        return Ok(None);
    }
    let given = settings.admin_password.clone();
    let password = given.clone().unwrap_or_else(random_password);
    let made = store.add_first_account(ADMINISTRATOR, &hash_password(&password)?).await?;
    Ok(Some(password).filter(|_| made && given.is_none()))
}

fn greet(settings: &Settings, address: std::net::SocketAddr, password: Option<&str>) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let host = match &settings.public_url {
        Some(url) => url.split("://").last().unwrap_or_default().trim_end_matches('/').to_owned(),
        None => address.to_string(),
    };
    writeln!(out, "cove-server {} at {host}", env!("CARGO_PKG_VERSION"))?;
    if settings.no_auth() {
        writeln!(out, "No accounts: everybody on this machine may do everything.")?;
    } else {
        writeln!(out, "Log in:   docker login {host} -u {ADMINISTRATOR}")?;
    }
    if let Some(password) = password {
        writeln!(
            out,
            "Password: {password}   (shown this once; change it with `cove-server user passwd {ADMINISTRATOR}`)"
        )?;
    }
    out.flush()?;
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_on_signal() -> Result<watch::Receiver<bool>, CommandError> {
    let (sender, receiver) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        // Kept alive: a receiver whose sender is gone would read as an error.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}
