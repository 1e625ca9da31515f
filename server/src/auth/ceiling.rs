//! What a personal access token allows at most, and the patterns that grants and tokens name repositories by.

use std::fmt;
use std::str::FromStr;

use cove_oci::{Action, Actions, RepositoryName};

/// A repository name, or `PREFIX/*` for everything below a prefix, at any depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This repository.
    Exact(RepositoryName),
    /// Everything below; the prefix is kept with its slash.
    Below(String),
}

/// Why a text is not a pattern or a token's scope.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The name part is wrong.
    #[error("`{0}` is not a repository pattern: use a name such as team/app, or team/* for everything below team")]
    Pattern(String),
    /// Not `repository:PATTERN:ACTIONS`.
    #[error("`{0}` is not a token scope: write repository:PATTERN:pull,push or registry:catalog:*")]
    Scope(String),
}

impl Pattern {
    /// Whether the pattern names `repository`.
    pub fn matches(&self, repository: &RepositoryName) -> bool {
        match self {
            Pattern::Exact(name) => name == repository,
            Pattern::Below(prefix) => repository.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError::Pattern(text.chars().take(80).collect());
        match text.strip_suffix("/*") {
            Some(prefix) => {
                let prefix: RepositoryName = prefix.parse().map_err(|_| wrong())?;
                Ok(Pattern::Below(format!("{prefix}/")))
            }
            None => Ok(Pattern::Exact(text.parse().map_err(|_| wrong())?)),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(name) => name.fmt(f),
            Pattern::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// What a credential allows at most; the rights of its account decide within that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// `None`: no limit.
    limits: Option<Limits>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Limits {
    repositories: Vec<(Pattern, Actions)>,
    catalog: bool,
}

impl Ceiling {
    /// Reads the space-separated scopes of a stored token; none means no limit.
    pub fn parse(scopes: &str) -> Result<Self, PatternError> {
        let mut limits = None;
        for scope in scopes.split_ascii_whitespace() {
            let limits: &mut Limits = limits.get_or_insert_default();
            if scope == "registry:catalog:*" {
                limits.catalog = true;
                continue;
            }
            let wrong = || PatternError::Scope(scope.chars().take(80).collect());
            let rest = scope.strip_prefix("repository:").ok_or_else(wrong)?;
            let (pattern, actions) = rest.rsplit_once(':').ok_or_else(wrong)?;
            let parsed = Actions::parse_lenient(actions);
            let known = actions == "*" || actions.split(',').all(|word| word.parse::<Action>().is_ok());
            if parsed.is_empty() || !known {
                return Err(wrong());
            }
            limits.repositories.push((pattern.parse()?, parsed));
        }
        Ok(Ceiling { limits })
    }

    /// Whether the credential may be used for `action` on `repository`.
    pub fn allows(&self, repository: &RepositoryName, action: Action) -> bool {
        match &self.limits {
            None => true,
            Some(limits) => limits
                .repositories
                .iter()
                .any(|(pattern, actions)| actions.contains(action) && pattern.matches(repository)),
        }
    }

    /// Whether the credential may list repositories.
    pub fn allows_catalog(&self) -> bool {
        self.limits.as_ref().is_none_or(|limits| limits.catalog)
    }

    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_only_allows_what_it_names() {
        let ceiling = Ceiling::parse("repository:team/*:pull,push repository:other:pull").unwrap();
        let may = |name: &str, action| ceiling.allows(&name.parse().unwrap(), action);
        assert!(may("team/app", Action::Push) && may("team/a/b", Action::Pull) && may("other", Action::Pull));
        assert!(!may("team", Action::Pull) && !may("teams/app", Action::Pull) && !may("other", Action::Push));
        assert!(!may("team/app", Action::Delete) && !ceiling.allows_catalog());
        assert!(Ceiling::parse("").unwrap().is_unlimited());
        for wrong in ["team", "repository:team", "repository:*:pull", "repository:team:fly", "repository:team:pull,fly"]
        {
            assert!(Ceiling::parse(wrong).is_err(), "{wrong}");
        }
    }
}
