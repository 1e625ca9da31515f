//! What a registry holds, as the model sees it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::reference::{Account, Facts, Grant, Limits, Scopes, Who};
use super::{Request, Subject};
use crate::Dice;

/// Names of repositories: users' own at several depths, names that only look like it, the administrators'.
pub(super) const NAMES: [&str; 16] = [
    "ann/app",
    "ann/deep/er/app",
    "ann",
    "annex/app",
    "ben/app",
    "ben/app/part",
    "rob/app",
    "library/base",
    "team",
    "team/app",
    "team/a/b",
    "team/a/b/c",
    "teams/app",
    "org/x",
    "org/x-y/z",
    "solo",
];
/// Patterns that are granted and that tokens are limited to, beside exact names.
pub(super) const PATTERNS: [&str; 8] =
    ["team/*", "team/a/*", "team/a/b/*", "ann/*", "ann/deep/*", "org/*", "library/*", "rob/*"];

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) public: bool,
    pub(super) blobs: BTreeSet<usize>,
    pub(super) manifests: BTreeSet<usize>,
    pub(super) tags: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct PersonalToken {
    pub(super) owner: usize,
    pub(super) name: String,
    pub(super) limits: Option<Limits>,
    pub(super) secret: String,
    /// Neither expired nor revoked.
    pub(super) counts: bool,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) id: String,
    pub(super) repository: String,
    pub(super) account: Option<usize>,
    pub(super) blob: usize,
    pub(super) size: usize,
}

/// By what a bearer or refresh token was bought.
#[derive(Clone, Debug)]
pub(super) enum Via {
    Anonymous,
    Password { account: usize, password: u32 },
    Token(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) token: String,
    pub(super) via: Via,
    pub(super) scopes: Scopes,
    pub(super) since: Instant,
}

/// How often things have happened.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Counts {
    /// All requests, those of the token service among them; repetitions for comparison do not count.
    pub requests: usize,
    pub changes: usize,
    pub unauthorized: usize,
    pub denied: usize,
    /// Answered as if there were nothing.
    pub absent: usize,
    /// Carried out, whatever was found.
    pub carried_out: usize,
    /// Answers compared with those about names that do not exist.
    pub compared: usize,
    pub mounts: usize,
    /// Of other users' uploads.
    pub foreign_uploads: usize,
    /// By tokens that had counted until an account, a token or a password changed.
    pub ended_tokens: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.requests += other.requests;
        self.changes += other.changes;
        self.unauthorized += other.unauthorized;
        self.denied += other.denied;
        self.absent += other.absent;
        self.carried_out += other.carried_out;
        self.compared += other.compared;
        self.mounts += other.mounts;
        self.foreign_uploads += other.foreign_uploads;
        self.ended_tokens += other.ended_tokens;
    }
}

impl Counts {
    /// Panics unless everything that the model is about has happened often enough to mean something.
    pub fn assert_varied(&self) {
        let least =
            |count: usize, share: usize| assert!(count >= self.requests / share, "too little variety: {self:#?}");
        for count in [self.unauthorized, self.denied, self.absent, self.compared] {
            least(count, 25);
        }
        least(self.carried_out, 4);
        for count in [self.changes, self.mounts, self.ended_tokens] {
            least(count, 200);
        }
        least(self.foreign_uploads, 500);
    }
}

/// Everything that has happened to one registry.
pub struct World {
    pub(super) dice: Dice,
    pub(super) default_public: bool,
    pub(super) admin_password: String,
    pub(super) accounts: Vec<Account>,
    pub(super) grants: Vec<Grant>,
    pub(super) tokens: Vec<PersonalToken>,
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) uploads: Vec<Upload>,
    pub(super) bearers: Vec<Bearer>,
    pub(super) refreshers: Vec<(String, Via)>,
    /// Failed logins by name: the server slows those after the second, so there are few.
    pub(super) failures: HashMap<String, u32>,
    pub(super) most_failures: u32,
    pub(super) history: VecDeque<String>,
    /// How often things have happened.
    pub counts: Counts,
}

impl World {
    /// A new world: fills an empty registry with accounts, repositories and rights. `default_public`: what the
    /// registry makes of new repositories.
    pub fn new(seed: u64, default_public: bool, subject: &mut impl Subject) -> Self {
        let admin = Account {
            name: "admin".to_owned(),
            robot: false,
            administrator: true,
            disabled: false,
            removed: false,
            password: 0,
        };
        let mut world = World {
            dice: Dice::new(seed),
            default_public,
            admin_password: subject.admin_password(),
            accounts: vec![admin],
            grants: Vec::new(),
            tokens: Vec::new(),
            repositories: BTreeMap::new(),
            uploads: Vec::new(),
            bearers: Vec::new(),
            refreshers: Vec::new(),
            failures: HashMap::new(),
            most_failures: 2,
            history: VecDeque::new(),
            counts: Counts::default(),
        };
        world.populate(subject);
        world
    }

    /// Does so many random requests, with changes between them.
    ///
    /// # Panics
    /// If an answer is another than the reference says.
    pub fn run(&mut self, requests: usize, subject: &mut impl Subject) {
        let end = self.counts.requests + requests;
        while self.counts.requests < end {
            match self.dice.within(0..1000) {
                0..20 => self.change(subject),
                20..100 => self.buy_token(subject),
                _ => self.request(subject),
            }
        }
    }

    pub(super) fn note(&mut self, what: String) {
        if self.history.len() == 25 {
            self.history.pop_front();
        }
        self.history.push_back(what);
    }

    /// What led here, for the message of a failure.
    pub(super) fn story(&self) -> String {
        let mut story = String::from("what happened before:\n");
        self.history.iter().for_each(|line| story.push_str(&format!("  {line}\n")));
        story.push_str(&format!("accounts: {:#?}\ngrants: {:#?}\n", self.accounts, self.grants));
        let names = self.repositories.iter().map(|(name, repository)| (name, repository.public));
        story.push_str(&format!("repositories, public or not: {:?}\n", names.collect::<Vec<_>>()));
        story
    }

    /// Who is behind a credential, if it counts now.
    pub(super) fn who(&self, via: &Via) -> Option<Who> {
        let (account, limits, counts) = match via {
            Via::Anonymous => return Some(Who { account: None, limits: None }),
            Via::Password { account, password } => (*account, None, self.accounts[*account].password == *password),
            Via::Token(index) => {
                let token = &self.tokens[*index];
                (token.owner, token.limits.clone(), token.counts)
            }
        };
        let Account { disabled, removed, .. } = self.accounts[account];
        (counts && !disabled && !removed).then_some(Who { account: Some(account), limits })
    }

    pub(super) fn password(&self, account: usize, number: u32) -> String {
        match account {
            0 => self.admin_password.clone(),
            _ => format!("password-{number}-of-{}", self.accounts[account].name),
        }
    }

    /// Accounts that are there, the first administrator aside.
    pub(super) fn present(&self) -> Vec<usize> {
        (1..self.accounts.len()).filter(|index| !self.accounts[*index].removed).collect()
    }

    pub(super) fn some<T: Clone>(&mut self, from: &[T]) -> T {
        self.dice.pick(from).expect("not empty").clone()
    }

    pub(super) fn some_name(&mut self) -> String {
        self.some(&NAMES).to_owned()
    }

    pub(super) fn ensure(&mut self, name: &str) -> &mut Repository {
        let public = self.default_public;
        self.repositories.entry(name.to_owned()).or_insert_with(|| Repository { public, ..Default::default() })
    }

    pub(super) fn as_admin(&self, mut request: Request) -> Request {
        request.authorization = Some(basic("admin", &self.admin_password));
        request
    }
}

impl Facts for World {
    fn account(&self, index: usize) -> &Account {
        &self.accounts[index]
    }

    fn grants(&self) -> &[Grant] {
        &self.grants
    }

    fn is_public(&self, repository: &str) -> bool {
        self.repositories.get(repository).is_some_and(|repository| repository.public)
    }
}

pub(super) fn basic(name: &str, secret: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
    format!("Basic {pair}")
}
