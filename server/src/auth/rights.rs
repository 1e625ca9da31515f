//! The one function that decides.

use cove_oci::{Action, Actions, RepositoryName};

use super::Principal;
use crate::metadata::{AccountKind, Facts, Visibility};

/// Whether `principal` may do `action` to `repository`, given what the database knows.
///
/// In order: a credential's own limits; administrators may everything; `NAME/*` belongs to the user NAME
/// (robots own nothing); grants, each of which includes the weaker levels; everybody may pull what is public.
pub fn may(principal: &Principal, facts: &Facts, repository: &RepositoryName, action: Action) -> bool {
    if !principal.ceiling.allows(repository, action) {
        return false;
    }
    let by_account = match &principal.account {
        Some(account) => account.administrator || owns(&account.name, account.kind, repository),
        None => principal.unrestricted,
    };
    by_account
        || facts.granted.is_some_and(|level| level >= action)
        || (action == Action::Pull && facts.visibility == Some(Visibility::Public))
}

/// The subset of `asked` that may be done.
pub fn allowed(principal: &Principal, facts: &Facts, repository: &RepositoryName, asked: Actions) -> Actions {
    asked.iter().filter(|action| may(principal, facts, repository, *action)).collect()
}

fn owns(name: &str, kind: AccountKind, repository: &RepositoryName) -> bool {
    let below = repository.as_str().strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    kind == AccountKind::User && below
}
