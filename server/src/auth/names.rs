//! Account names. A user's name is also the first part of their repositories' names, so the grammar is the
//! same.

use cove_oci::RepositoryName;

/// Names that mean something else.
const RESERVED: [&str; 8] = ["anonymous", "library", "token", "v1", "v2", "cove", "root", "system"];

/// Longest account name.
const LIMIT: usize = 64;

/// Why a name cannot be an account's.
#[derive(Debug, thiserror::Error)]
pub enum AccountNameError {
    /// Not one part of a repository name.
    #[error(
        "`{0}` is not an account name: use up to {LIMIT} lower-case letters and digits, separated by `.`, `_` or `-`"
    )]
    Grammar(String),
    /// Reserved.
    #[error("`{0}` is reserved: choose another name")]
    Reserved(String),
}

/// Checks the name of a new account.
pub fn check_account_name(name: &str) -> Result<(), AccountNameError> {
    let one_part = !name.contains('/') && name.len() <= LIMIT && name.parse::<RepositoryName>().is_ok();
    if !one_part {
        return Err(AccountNameError::Grammar(name.chars().take(80).collect()));
    }
    if RESERVED.contains(&name) {
        return Err(AccountNameError::Reserved(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names_are_one_part_of_a_repository_name() {
        for name in ["alice", "a.b-c_d", "0"] {
            assert!(check_account_name(name).is_ok(), "{name}");
        }
        for name in ["", "Alice", "a/b", "a:b", "library", "anonymous", "a b", "-a", "ä"] {
            assert!(check_account_name(name).is_err(), "{name}");
        }
    }
}
