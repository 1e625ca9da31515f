//! The command line: `cove-server` alone serves; everything else is a command that works beside it.

mod accounts;
mod maintenance;
mod repositories;
mod serve;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::auth::{AccountNameError, KeyError, PatternError};
use crate::blobs::{BlobStore, BlobStoreError, Cloud, Folder};
use crate::error::Error;
use crate::metadata::{MetadataError, MetadataStore, Policy, Visibility};
use crate::settings::{Settings, SettingsError};

/// An OCI registry with built-in accounts and token service.
#[derive(Debug, Parser)]
#[command(name = "cove-server", version, about, after_help = "Without a command, the registry is started.")]
pub struct CommandLine {
    /// Settings file, TOML
    #[arg(long, env = "COVE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Show the settings in force, secrets hidden, and exit
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accounts: users, and robots that have only tokens
    #[command(subcommand)]
    User(accounts::User),
    /// Personal access tokens
    #[command(subcommand)]
    Token(accounts::Token),
    /// Grant a right on a repository, or on everything below PREFIX/*
    Grant(repositories::Grant),
    /// Take a right back
    Revoke(repositories::Revoke),
    /// List the rights that were granted
    Grants,
    /// Repositories
    #[command(subcommand)]
    Repo(repositories::Repo),
    /// Keys that sign tokens
    #[command(subcommand)]
    Key(maintenance::Key),
    /// Compare database and blobs both ways
    Check(maintenance::Check),
    /// Ask a running server whether it is ready; for containers
    Healthcheck(maintenance::Healthcheck),
}

/// Why a command failed. Shown to the operator as it is.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Database.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Blob store.
    #[error(transparent)]
    BlobStore(#[from] BlobStoreError),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A name.
    #[error(transparent)]
    AccountName(#[from] AccountNameError),
    /// A pattern or a scope.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Anything that the server's own parts report.
    #[error(transparent)]
    Server(#[from] Error),
    /// Files and terminals.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Another server has the database.
    #[error("another cove-server is using `{0}`: stop it first, or give this one another --data")]
    InUse(String),
    /// The address is taken.
    #[error("{address} cannot be listened on: {error}; is another server running, or choose another --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// There is no account of that name.
    #[error("there is no account `{0}`: `cove-server user list` shows those there are")]
    NoAccount(String),
    /// Something else that the operator named is not there, or not possible.
    #[error("{0}")]
    Refused(String),
}

type Outcome = Result<ExitCode, CommandError>;

/// Runs what the command line says.
pub async fn run(line: CommandLine) -> Outcome {
    let settings = line.settings.complete(line.config.as_deref())?;
    let Some(command) = line.command else {
        settings.validate()?;
        if line.print_config {
            return say(&settings.to_string());
        }
        return serve::serve(settings).await;
    };
    match command {
        Command::User(command) => accounts::user(&settings, command).await,
        Command::Token(command) => accounts::token(&settings, command).await,
        Command::Grant(command) => repositories::grant(&settings, command).await,
        Command::Revoke(command) => repositories::revoke(&settings, command).await,
        Command::Grants => repositories::grants(&settings).await,
        Command::Repo(command) => repositories::repo(&settings, command).await,
        Command::Key(command) => maintenance::key(&settings, command).await,
        Command::Check(command) => maintenance::check(&settings, command).await,
        Command::Healthcheck(command) => maintenance::healthcheck(&settings, command).await,
    }
}

async fn open_store(settings: &Settings) -> Result<MetadataStore, CommandError> {
    let policy = Policy { grace: settings.gc_grace(), visibility: settings.default_visibility() };
    Ok(MetadataStore::open(&settings.database(), policy).await?)
}

/// Opens the blob store; `serving` takes it for oneself.
fn open_blobs(settings: &Settings, serving: bool) -> Result<BlobStore, CommandError> {
    let url = settings.blobs();
    match url.strip_prefix("file://") {
        Some(path) => Ok(BlobStore::Folder(Folder::open(path.as_ref(), serving)?)),
        None => Ok(BlobStore::Cloud(Cloud::open(&url, &settings.cloud())?)),
    }
}

/// Prints a result.
fn say(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints rows as columns under a heading.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Outcome {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    let mut text = line(heading);
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    say(&text)
}

/// A time as a person reads it; `-` for none.
fn shown_time(ms: Option<i64>) -> String {
    let time = ms.and_then(|ms| time::OffsetDateTime::from_unix_timestamp(ms / 1000).ok());
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "-".to_owned())
}

/// A set visibility from two flags of which clap lets exactly one through.
fn visibility(public: bool) -> Visibility {
    if public { Visibility::Public } else { Visibility::Private }
}
