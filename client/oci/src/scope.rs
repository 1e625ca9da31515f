//! Scopes of the token protocol: what a client asks for and what a token allows at most.
//!
//! Source: distribution's documents "Token Scope Documentation" and "Token Authentication Specification".

use std::fmt;
use std::str::FromStr;

use crate::digest::shortened;
use crate::{NameError, RepositoryName};

/// One thing that may be done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read manifests, tags, blobs and referrers.
    Pull,
    /// Write manifests, tags and blobs.
    Push,
    /// Delete manifests, tags and blobs.
    Delete,
    /// Change the repository itself: visibility and removal.
    Admin,
}

impl Action {
    /// Every action, weakest first.
    pub const ALL: [Action; 4] = [Action::Pull, Action::Push, Action::Delete, Action::Admin];

    /// The word used in scopes, grants and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Action::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| ScopeError::Action(shortened(text)))
    }
}

/// A set of [`Action`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Actions(u8);

impl Actions {
    /// No action.
    pub const NONE: Actions = Actions(0);
    /// Every action; `*` in a scope.
    pub const ALL: Actions = Actions(0b1111);

    /// Whether `action` is in the set.
    pub fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    /// The set with `action` added.
    #[must_use]
    pub fn with(self, action: Action) -> Actions {
        Actions(self.0 | (1 << action as u8))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions in the set, weakest first.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    /// Reads a comma-separated list. Unknown words are passed over, as the token protocol asks: they can never
    /// be granted, and refusing them would break clients that ask for more than this registry knows.
    pub fn parse_lenient(text: &str) -> Actions {
        let mut actions = Actions::NONE;
        for word in text.split(',') {
            match word {
                "*" => return Actions::ALL,
                word => actions = word.parse().map_or(actions, |action| actions.with(action)),
            }
        }
        actions
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        actions.into_iter().fold(Actions::NONE, Actions::with)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Action::as_str).collect();
        f.write_str(&words.join(","))
    }
}

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not `type:name:actions`.
    #[error("`{0}` is not a scope: write it as repository:NAME:pull,push")]
    Shape(String),
    /// A word that is no action.
    #[error("`{0}` is not an action: use pull, push, delete or admin")]
    Action(String),
    /// The repository name is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a scope is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `repository:NAME:ACTIONS`
    Repository(ResourceScope),
    /// `registry:catalog:*`, to list repositories.
    Catalog,
}

/// A repository and a set of actions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceScope {
    /// The repository.
    pub repository: RepositoryName,
    /// The actions asked for.
    pub actions: Actions,
}

impl Scope {
    /// The scope for `actions` on `repository`.
    pub fn repository(repository: RepositoryName, actions: Actions) -> Self {
        Scope::Repository(ResourceScope { repository, actions })
    }

    /// Reads a `scope` parameter, which holds one scope or several separated by spaces. Types that this
    /// registry does not know are left out, as the token protocol asks; malformed ones are errors.
    pub fn parse_list(text: &str) -> Result<Vec<Scope>, ScopeError> {
        let mut scopes = Vec::new();
        for part in text.split_ascii_whitespace() {
            // A name may contain `host:port`, so the first and the last colon divide the three parts.
            let (kind, rest) = part.split_once(':').ok_or_else(|| ScopeError::Shape(shortened(part)))?;
            let (name, actions) = rest.rsplit_once(':').ok_or_else(|| ScopeError::Shape(shortened(part)))?;
            match (kind, name) {
                ("repository" | "repository(plugin)", name) => {
                    scopes.push(Scope::repository(name.parse()?, Actions::parse_lenient(actions)));
                }
                ("registry", "catalog") => scopes.push(Scope::Catalog),
                _ => {}
            }
        }
        Ok(scopes)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Repository(scope) => write!(f, "repository:{}:{}", scope.repository, scope.actions),
            Scope::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let scopes =
            Scope::parse_list("repository:a/b:pull,push repository(plugin):c:* registry:catalog:* aws:x:y").unwrap();
        let texts: Vec<String> = scopes.iter().map(Scope::to_string).collect();
        assert_eq!(texts, ["repository:a/b:pull,push", "repository:c:pull,push,delete,admin", "registry:catalog:*"]);
        assert_eq!(Scope::parse_list("").unwrap(), []);
        assert!(Scope::parse_list("repository").is_err());
        assert!(Scope::parse_list("repository:a").is_err());
        assert!(Scope::parse_list("repository:../x:pull").is_err());
    }

    #[test]
    fn unknown_actions_grant_nothing() {
        assert!(Actions::parse_lenient("fly,swim").is_empty());
        assert_eq!(Actions::parse_lenient("pull,fly").to_string(), "pull");
        assert_eq!(Actions::parse_lenient("*"), Actions::ALL);
    }
}
