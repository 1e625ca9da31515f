//! Who may, written down a second time: from the rules as README and the issue state them, not from the server.
//!
//! [`may`] and [`judge`] are the reference; the types around them are what the rules speak of.

/// One thing that may be done to a repository; each level of a grant includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Action {
    Pull,
    Push,
    Delete,
    Admin,
}

/// An account, as far as rights go.
#[derive(Clone, Debug)]
pub struct Account {
    /// By which it logs in.
    pub name: String,
    /// Has only tokens, owns nothing.
    pub robot: bool,
    /// May everything.
    pub administrator: bool,
    /// May nothing.
    pub disabled: bool,
    /// Gone; another account may have the name now.
    pub removed: bool,
    /// Counts its passwords.
    pub password: u32,
}

/// What was granted to an account, or to everybody.
#[derive(Clone, Debug)]
pub struct Grant {
    /// None: `anonymous`, which is everybody.
    pub to: Option<usize>,
    /// A name, or `PREFIX/*`.
    pub pattern: String,
    /// This and everything weaker.
    pub level: Action,
}

/// The limits of a personal access token.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Patterns, and what may be done there.
    pub repositories: Vec<(String, Vec<Action>)>,
    /// Whether repositories may be listed.
    pub catalog: bool,
}

/// Somebody whose credential counts.
#[derive(Clone, Debug)]
pub struct Who {
    /// None: anonymous.
    pub account: Option<usize>,
    /// None: all that the account may.
    pub limits: Option<Limits>,
}

/// What a request shows.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// A user name with a secret that does not count.
    WrongBasic,
    /// A bearer token that does not count.
    WrongBearer,
    /// A user name with a password or a personal access token.
    Basic(Who),
    /// A bearer token with what it covers.
    Bearer(Who, Scopes),
}

/// What a bearer token covers.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    /// Names, and what may be done there.
    pub repositories: Vec<(String, Vec<Action>)>,
    /// The list of repositories.
    pub catalog: bool,
}

/// What a request needs.
#[derive(Clone, Debug)]
pub enum Need {
    /// To show something that counts.
    Token,
    /// To list repositories.
    Catalog,
    /// To do something to a repository.
    Repository(String, Action),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 401, with the error that the challenge names.
    Unauthorized(Option<&'static str>),
    /// 403.
    Denied,
    /// As if there were nothing of that name.
    Absent,
    /// It is carried out.
    Go,
}

/// The facts that rules look at.
pub trait Facts {
    /// An account.
    fn account(&self, index: usize) -> &Account;
    /// All grants.
    fn grants(&self) -> &[Grant];
    /// Whether there is a repository of that name, and it is public.
    fn is_public(&self, repository: &str) -> bool;
}

/// Whether a pattern names a repository: itself, or everything below `PREFIX/`, but not `PREFIX`.
pub fn names(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => repository.len() > prefix.len() && repository.starts_with(prefix),
        None => repository == pattern,
    }
}

/// Whether somebody may do something to a repository.
pub fn may(facts: &impl Facts, who: &Who, action: Action, repository: &str) -> bool {
    if let Some(limits) = &who.limits {
        let mut within = limits.repositories.iter();
        if !within.any(|(pattern, actions)| names(pattern, repository) && actions.contains(&action)) {
            return false;
        }
    }
    if let Some(account) = who.account.map(|index| facts.account(index)) {
        let own = !account.robot && names(&format!("{}/*", account.name), repository);
        if account.administrator || own {
            return true;
        }
    }
    if action == Action::Pull && facts.is_public(repository) {
        return true;
    }
    let theirs = |grant: &&Grant| grant.to.is_none() || grant.to == who.account;
    facts.grants().iter().filter(theirs).any(|grant| names(&grant.pattern, repository) && grant.level >= action)
}

/// What becomes of a request, before its handler looks at what there is.
pub fn judge(facts: &impl Facts, shown: &Shown, need: &Need) -> Verdict {
    let who = match shown {
        Shown::Nothing | Shown::WrongBasic => return Verdict::Unauthorized(None),
        Shown::WrongBearer => return Verdict::Unauthorized(Some("invalid_token")),
        Shown::Basic(who) => who,
        Shown::Bearer(who, scopes) => {
            let covered = match need {
                Need::Token => true,
                Need::Catalog => scopes.catalog,
                Need::Repository(name, action) => {
                    scopes.repositories.iter().any(|(covered, actions)| covered == name && actions.contains(action))
                }
            };
            if !covered {
                return Verdict::Unauthorized(Some("insufficient_scope"));
            }
            who
        }
    };
    match need {
        Need::Token => Verdict::Go,
        Need::Catalog if who.limits.as_ref().is_none_or(|limits| limits.catalog) => Verdict::Go,
        Need::Catalog => Verdict::Denied,
        Need::Repository(name, action) if may(facts, who, *action, name) => Verdict::Go,
        // A refused push tells nothing: it is refused whether or not the repository exists.
        Need::Repository(_, Action::Push) => Verdict::Denied,
        // Who may see it may be told that they may not delete it.
        Need::Repository(name, Action::Delete) if may(facts, who, Action::Pull, name) => Verdict::Denied,
        Need::Repository(..) => Verdict::Absent,
    }
}
