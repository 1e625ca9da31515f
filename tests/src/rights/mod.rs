//! A model of who may do what: random accounts, repositories, grants, tokens and requests, and for each request
//! the answer that a second, independent statement of the rules asks for.
//!
//! [`reference`] holds the rules, [`World`] what a registry holds after all that has happened to it. A test
//! drives a [`World`] against a [`Subject`]: the server's router in the process, or the program over HTTP.

pub mod reference;

mod answers;
mod asking;
mod changes;
mod content;
mod tokens;
mod world;

use reference::{Action, Limits};

pub use world::{Counts, World};

/// A request, as it goes out.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The path with its query.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Content-Type`.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What an administrator does beside the requests.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Change {
    AddAccount { name: String, robot: bool, administrator: bool, password: String },
    SetPassword { name: String, password: String },
    SetDisabled { name: String, disabled: bool },
    RemoveAccount { name: String },
    CreateToken { account: String, name: String, limits: Option<Limits>, expired: bool },
    RevokeToken { account: String, name: String },
    Grant { to: Option<String>, pattern: String, level: Action },
    Revoke { to: Option<String>, pattern: String },
    SetVisibility { repository: String, public: bool },
    RemoveRepository { repository: String },
}

/// A registry that is tried.
pub trait Subject {
    /// Sends a request.
    fn ask(&mut self, request: &Request) -> Reply;
    /// Makes a change, which must work. Returns the secret of a token that was made.
    fn change(&mut self, change: &Change) -> String;
    /// The password of `admin`.
    fn admin_password(&self) -> String;
}

impl Action {
    /// All of them, weakest first.
    pub const ALL: [Action; 4] = [Action::Pull, Action::Push, Action::Delete, Action::Admin];

    /// The word in scopes and grants.
    pub fn word(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::Admin => "admin",
        }
    }
}

impl Limits {
    /// As `token create --scope` takes them.
    pub fn scopes(&self) -> Vec<String> {
        let scope =
            |(pattern, actions): &(String, Vec<Action>)| format!("repository:{pattern}:{}", reference_list(actions));
        let catalog = self.catalog.then(|| "registry:catalog:*".to_owned());
        self.repositories.iter().map(scope).chain(catalog).collect()
    }
}

fn reference_list(actions: &[Action]) -> String {
    actions.iter().map(|action| action.word()).collect::<Vec<_>>().join(",")
}
