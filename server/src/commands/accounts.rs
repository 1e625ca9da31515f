//! `cove-server user …` and `cove-server token …`

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CommandError, Outcome, open_store, say, shown_time, table};
use crate::auth::{
    Ceiling, PERSONAL_PREFIX, WEAK_PASSWORD_LENGTH, check_account_name, hash_password, new_secret, random_password,
    secret_hash,
};
use crate::metadata::{Account, AccountKind, MetadataStore, TokenKind, TokenRow, as_ms, now_ms};
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add an account
    Add {
        /// Its name
        name: String,
        /// May do everything
        #[arg(long, conflicts_with = "robot")]
        admin: bool,
        /// A robot: has only tokens and grants, owns nothing
        #[arg(long)]
        robot: bool,
        /// Read the password from standard input [default: ask on a terminal, else make one up and print it]
        #[arg(long, conflicts_with = "robot")]
        password_stdin: bool,
    },
    /// Set a new password; ends the old one and what was obtained with it
    Passwd {
        /// Whose
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lock an account out, at once
    Disable {
        /// Whom
        name: String,
    },
    /// Let a disabled account in again
    Enable {
        /// Whom
        name: String,
    },
    /// Remove an account with its tokens and grants; its repositories stay
    Rm {
        /// Whom
        name: String,
    },
    /// List accounts
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it, this once
    Create(CreateToken),
    /// List an account's tokens
    #[command(visible_alias = "ls")]
    List {
        /// Whose
        user: String,
    },
    /// End a token, and what was obtained with it
    Revoke {
        /// As `token list` shows it
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateToken {
    /// For whom
    user: String,
    /// What to call it
    #[arg(long, default_value = "token")]
    name: String,
    /// What it allows at most, such as repository:team/*:pull,push; may be repeated [default: all the account may]
    #[arg(long)]
    scope: Vec<String>,
    /// How long it lasts, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
}

pub(super) async fn user(settings: &Settings, command: User) -> Outcome {
    let store = open_store(settings).await?;
    match command {
        User::Add { name, admin, robot, password_stdin } => {
            check_account_name(&name)?;
            if robot {
                store.add_account(&name, AccountKind::Robot, false, None).await?;
                return say(&format!("robot {name} added: make it a token with `cove-server token create {name}`"));
            }
            let password = new_password(password_stdin)?;
            let hash = hash_password(password.text())?;
            store.add_account(&name, AccountKind::User, admin, Some(&hash)).await?;
            password.announce(&format!("user {name} added"))
        }
        User::Passwd { name, password_stdin } => {
            let found = account(&store, &name).await?;
            if found.kind == AccountKind::Robot {
                return Err(CommandError::Refused(format!("`{name}` is a robot: it logs in with tokens only")));
            }
            let password = new_password(password_stdin)?;
            store.set_password(&name, &hash_password(password.text())?).await?;
            password.announce(&format!("password of {name} changed"))
        }
        User::Disable { name } => done(store.set_disabled(&name, true).await?, &name, "disabled"),
        User::Enable { name } => done(store.set_disabled(&name, false).await?, &name, "enabled"),
        User::Rm { name } => done(store.remove_account(&name).await?, &name, "removed"),
        User::List => {
            let row = |account: &Account| {
                let mut state = vec![account.kind.to_string()];
                state.extend(account.administrator.then(|| "admin".to_owned()));
                state.extend(account.disabled.then(|| "disabled".to_owned()));
                [account.name.clone(), state.join(", ")]
            };
            let rows: Vec<_> = store.accounts().await?.iter().map(row).collect();
            table(["NAME", "KIND"], &rows)
        }
    }
}

pub(super) async fn token(settings: &Settings, command: Token) -> Outcome {
    let store = open_store(settings).await?;
    match command {
        Token::Create(create) => {
            let account = account(&store, &create.user).await?;
            let scopes = create.scope.join(" ");
            Ceiling::parse(&scopes)?;
            let secret = new_secret(PERSONAL_PREFIX);
            let token = TokenRow {
                id: 0,
                account_id: account.id,
                kind: TokenKind::Personal,
                name: create.name,
                scopes,
                source_token_id: None,
                password_version: None,
                created_ms: 0,
                expires_ms: create.expires.map(|lasts| now_ms() + as_ms(lasts)),
                used_ms: None,
            };
            store.add_token(&token, &secret_hash(&secret)).await?;
            say(&secret)
        }
        Token::List { user } => {
            let account = account(&store, &user).await?;
            let row = |token: &TokenRow| {
                let kind = match token.kind {
                    TokenKind::Personal => "personal",
                    TokenKind::Refresh => "refresh",
                };
                let scopes = if token.scopes.is_empty() { "all" } else { &token.scopes };
                [
                    token.id.to_string(),
                    kind.to_owned(),
                    token.name.clone(),
                    scopes.to_owned(),
                    shown_time(Some(token.created_ms)),
                    shown_time(token.expires_ms),
                    shown_time(token.used_ms),
                ]
            };
            let rows: Vec<_> = store.tokens(account.id).await?.iter().map(row).collect();
            table(["ID", "KIND", "NAME", "SCOPES", "CREATED", "EXPIRES", "USED"], &rows)
        }
        Token::Revoke { id } => match store.revoke_token(id).await? {
            true => say(&format!("token {id} revoked")),
            false => {
                Err(CommandError::Refused(format!("there is no token {id}: `cove-server token list USER` shows them")))
            }
        },
    }
}

/// The account, or what to say where there is none.
pub(super) async fn account(store: &MetadataStore, name: &str) -> Result<Account, CommandError> {
    store.account(name).await?.ok_or_else(|| CommandError::NoAccount(name.to_owned()))
}

fn done(found: bool, name: &str, what: &str) -> Outcome {
    match found {
        true => say(&format!("{name} {what}")),
        false => Err(CommandError::NoAccount(name.to_owned())),
    }
}

enum NewPassword {
    Given(String),
    MadeUp(String),
}

impl NewPassword {
    fn text(&self) -> &str {
        match self {
            NewPassword::Given(text) | NewPassword::MadeUp(text) => text,
        }
    }

    fn announce(&self, what: &str) -> Outcome {
        match self {
            NewPassword::Given(text) => {
                if text.chars().count() < WEAK_PASSWORD_LENGTH {
                    let warning = format!("warning: fewer than {WEAK_PASSWORD_LENGTH} characters are easy to guess");
                    writeln!(std::io::stderr(), "{warning}")?;
                }
                say(what)
            }
            NewPassword::MadeUp(text) => say(&format!("{what}; password: {text}")),
        }
    }
}

fn new_password(from_stdin: bool) -> Result<NewPassword, CommandError> {
    let terminal = std::io::stdin().is_terminal();
    if !from_stdin && !terminal {
        return Ok(NewPassword::MadeUp(random_password()));
    }
    if !from_stdin {
        write!(std::io::stderr(), "New password (empty: make one up; it is shown as you type): ")?;
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" if from_stdin => Err(CommandError::Refused("the password on standard input is empty".to_owned())),
        "" => Ok(NewPassword::MadeUp(random_password())),
        text => Ok(NewPassword::Given(text.to_owned())),
    }
}
