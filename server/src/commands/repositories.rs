//! `cove-server repo …`, `grant`, `revoke`, `grants`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use cove_oci::{Action, RepositoryName};

use super::accounts::account;
use super::{CommandError, Outcome, open_store, say, table, visibility};
use crate::auth::Pattern;
use crate::metadata::MetadataStore;
use crate::settings::Settings;

/// Longest description, in characters.
const DESCRIPTION_LIMIT: usize = 500;

/// The grantee that stands for everybody.
const ANONYMOUS: &str = "anonymous";

#[derive(Debug, Args)]
pub(super) struct Grant {
    /// An account, or `anonymous` for everybody
    user: String,
    /// A repository, or PREFIX/* for everything below
    pattern: Pattern,
    /// pull, push, delete or admin; each includes those before it
    level: Action,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// An account, or `anonymous`
    user: String,
    /// The pattern that was granted
    pattern: Pattern,
}

#[derive(Debug, Subcommand)]
pub(super) enum Repo {
    /// List repositories
    #[command(visible_alias = "ls")]
    List,
    /// Set who may pull, and what a search shows; --public and --private make the repository if it is not there
    Set {
        /// Which
        name: RepositoryName,
        /// Everybody may pull
        #[arg(long, required_unless_present_any = ["private", "description"], conflicts_with = "private")]
        public: bool,
        /// Only those who were granted it
        #[arg(long)]
        private: bool,
        /// A line about it, which `docker search` shows; empty to remove it
        #[arg(long, value_name = "TEXT", value_parser = description)]
        description: Option<String>,
    },
    /// Remove a repository with everything in it
    Rm {
        /// Which
        name: RepositoryName,
    },
}

pub(super) async fn grant(settings: &Settings, grant: Grant) -> Outcome {
    let store = open_store(settings).await?;
    let grantee = grantee(&store, &grant.user).await?;
    let pattern = grant.pattern.to_string();
    store.grant(grantee, &pattern, grant.level).await?;
    say(&format!("{} may {} {pattern}", grant.user, grant.level))
}

pub(super) async fn revoke(settings: &Settings, revoke: Revoke) -> Outcome {
    let store = open_store(settings).await?;
    let pattern = revoke.pattern.to_string();
    match store.revoke_grant(grantee(&store, &revoke.user).await?, &pattern).await? {
        true => say(&format!("taken back from {}: {pattern}", revoke.user)),
        false => Err(CommandError::Refused(format!(
            "{} has no grant on {pattern}: `cove-server grants` lists them",
            revoke.user
        ))),
    }
}

pub(super) async fn grants(settings: &Settings) -> Outcome {
    let grants = open_store(settings).await?.grants().await?;
    let rows: Vec<_> = grants
        .into_iter()
        .map(|grant| [grant.account.unwrap_or_else(|| ANONYMOUS.to_owned()), grant.pattern, grant.level.to_string()])
        .collect();
    table(["USER", "REPOSITORIES", "RIGHT"], &rows)
}

pub(super) async fn repo(settings: &Settings, command: Repo) -> Outcome {
    let store = open_store(settings).await?;
    match command {
        Repo::List => {
            let repositories = store.repositories().await?;
            let rows: Vec<_> = repositories
                .into_iter()
                .map(|row| {
                    [row.name.to_string(), row.visibility.to_string(), row.tags.to_string(), row.size.to_string()]
                })
                .collect();
            table(["NAME", "VISIBILITY", "TAGS", "BYTES"], &rows)
        }
        Repo::Set { name, public, private, description } => {
            if public || private {
                let visibility = visibility(public);
                store.set_visibility(&name, visibility).await?;
                say(&format!("{name} is {visibility}"))?;
            }
            match description {
                None => Ok(ExitCode::SUCCESS),
                Some(text) if store.set_description(&name, &text).await? => {
                    say(&format!("{name} is described as: {text}"))
                }
                Some(_) => Err(absent(&name)),
            }
        }
        Repo::Rm { name } => match store.remove_repository(&name).await? {
            true => say(&format!("{name} removed; its space comes back within a minute of a running server")),
            false => Err(absent(&name)),
        },
    }
}

fn absent(name: &RepositoryName) -> CommandError {
    CommandError::Refused(format!("there is no repository `{name}`: `cove-server repo list` shows those there are"))
}

/// One line, as wide as a table can show at most.
fn description(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err("a description is one line of text".to_owned());
    }
    match text.chars().count() <= DESCRIPTION_LIMIT {
        true => Ok(text.to_owned()),
        false => Err(format!("a description has at most {DESCRIPTION_LIMIT} characters")),
    }
}

async fn grantee(store: &MetadataStore, name: &str) -> Result<Option<i64>, CommandError> {
    match name {
        ANONYMOUS => Ok(None),
        name => Ok(Some(account(store, name).await?.id)),
    }
}
