//! Random requests: what is asked, and how that is said in HTTP.

use super::content::{BLOBS, MANIFESTS, TAGS};
use super::reference::{Action, Need, Shown, Verdict, Who, judge};
use super::world::{Via, basic};
use super::{Request, Subject, World};
use crate::media_type;

/// What a request is about.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Base,
    Catalog,
    Tags { name: String },
    Referrers { name: String, manifest: usize },
    ManifestRead { name: String, reference: Reference, head: bool },
    ManifestPut { name: String, reference: Reference, manifest: usize },
    ManifestDelete { name: String, reference: Reference },
    BlobRead { name: String, blob: usize, head: bool },
    BlobDelete { name: String, blob: usize },
    Begin { name: String, blob: usize },
    Whole { name: String, blob: usize },
    Mount { name: String, blob: usize, from: Option<String> },
    UploadStatus { name: String, id: String },
    UploadAppend { name: String, id: String },
    UploadFinish { name: String, id: String },
    UploadCancel { name: String, id: String },
}

#[derive(Clone, Debug)]
pub(super) enum Reference {
    Tag(String),
    Digest(usize),
}

impl Reference {
    fn text(&self) -> &str {
        match self {
            Reference::Tag(tag) => tag,
            Reference::Digest(manifest) => &MANIFESTS[*manifest].digest,
        }
    }
}

/// Bytes that one PATCH brings.
pub(super) const CHUNK: usize = 5;

impl Operation {
    pub(super) fn need(&self) -> Need {
        use Operation::*;
        let (name, action) = match self {
            Base => return Need::Token,
            Catalog => return Need::Catalog,
            Tags { name } | Referrers { name, .. } | ManifestRead { name, .. } | BlobRead { name, .. } => {
                (name, Action::Pull)
            }
            ManifestDelete { name, .. } | BlobDelete { name, .. } => (name, Action::Delete),
            ManifestPut { name, .. }
            | Begin { name, .. }
            | Whole { name, .. }
            | Mount { name, .. }
            | UploadStatus { name, .. }
            | UploadAppend { name, .. }
            | UploadFinish { name, .. }
            | UploadCancel { name, .. } => (name, Action::Push),
        };
        Need::Repository(name.clone(), action)
    }

    /// The same about a repository that nobody ever made, of a name as long.
    pub(super) fn elsewhere(&self) -> Option<(String, String)> {
        match self.need() {
            Need::Repository(name, _) => {
                let elsewhere = "q".repeat(name.len());
                Some((name, elsewhere))
            }
            Need::Token | Need::Catalog => None,
        }
    }
}

impl World {
    pub(super) fn request(&mut self, subject: &mut impl Subject) {
        let operation = self.some_operation();
        let (shown, authorization) = self.some_credential_for(&operation);
        self.perform(&operation, &shown, authorization, subject);
    }

    fn some_operation(&mut self) -> Operation {
        let name = self.some_name();
        let blob = self.some_blob();
        let manifest = self.dice.within(0..MANIFESTS.len() as u64) as usize;
        let reference = match self.dice.percent(60) {
            true => Reference::Tag(self.some(&TAGS).to_owned()),
            false => Reference::Digest(manifest),
        };
        let head = self.dice.percent(30);
        match self.dice.within(0..1000) {
            0..20 => Operation::Base,
            20..60 => Operation::Catalog,
            60..130 => Operation::Tags { name },
            130..200 => Operation::Referrers { name, manifest: self.dice.within(0..2) as usize },
            200..360 => Operation::ManifestRead { name, reference, head },
            360..440 => Operation::ManifestPut {
                manifest: match &reference {
                    Reference::Tag(_) => manifest,
                    Reference::Digest(named) => *named,
                },
                name,
                reference,
            },
            440..480 => Operation::ManifestDelete { name, reference },
            480..620 => Operation::BlobRead { name, blob, head },
            620..650 => Operation::BlobDelete { name, blob },
            650..690 => Operation::Begin { name, blob },
            690..730 => Operation::Whole { name, blob },
            730..850 => {
                let from = self.dice.percent(70).then(|| self.some_name());
                Operation::Mount { name, blob, from }
            }
            _ => {
                let count = self.uploads.len();
                let (name, id) = match count {
                    0 => (name, "0".repeat(32)),
                    _ => {
                        let upload = &self.uploads[self.dice.within(0..count as u64) as usize];
                        let (id, own) = (upload.id.clone(), upload.repository.clone());
                        let name = if self.dice.percent(85) { own } else { name };
                        let id = if self.dice.percent(95) { id } else { id.chars().rev().collect() };
                        (name, id)
                    }
                };
                match self.dice.within(0..100) {
                    0..30 => Operation::UploadStatus { name, id },
                    30..65 => Operation::UploadAppend { name, id },
                    65..90 => Operation::UploadFinish { name, id },
                    _ => Operation::UploadCancel { name, id },
                }
            }
        }
    }

    /// Any credential, but more often one that fits than chance would have it.
    fn some_credential_for(&mut self, operation: &Operation) -> (Shown, Option<String>) {
        let need = operation.need();
        let upload = match operation {
            Operation::UploadStatus { id, .. }
            | Operation::UploadAppend { id, .. }
            | Operation::UploadFinish { id, .. }
            | Operation::UploadCancel { id, .. } => self.uploads.iter().find(|upload| upload.id == *id),
            _ => None,
        };
        let owner = upload.map(|upload| upload.account);
        let wanted = self.dice.within(0..100);
        let mut drawn = self.some_credential();
        for _ in 0..40 {
            let verdict = judge(self, &drawn.0, &need);
            let account = match &drawn.0 {
                Shown::Basic(who) | Shown::Bearer(who, _) => Some(who.account),
                Shown::Nothing | Shown::WrongBasic | Shown::WrongBearer => None,
            };
            let fits = match wanted {
                0..45 => verdict == Verdict::Go && owner.is_none_or(|owner| account == Some(owner)),
                45..60 => verdict == Verdict::Go, // of uploads: often another user's
                60..85 => matches!(verdict, Verdict::Absent | Verdict::Denied),
                _ => true,
            };
            if fits {
                break;
            }
            drawn = self.some_credential();
        }
        drawn
    }

    /// Sends a request about `operation`, compares the answer with the reference, and keeps in mind what it did.
    pub(super) fn perform(
        &mut self,
        operation: &Operation,
        shown: &Shown,
        authorization: Option<String>,
        subject: &mut impl Subject,
    ) {
        self.counts.requests += 1;
        let request = Request { authorization, ..self.phrase(operation) };
        let verdict = judge(self, shown, &operation.need());
        self.note(format!("{operation:?}, shown {}: {verdict:?}", self.describe(shown)));
        if let Shown::WrongBasic = shown {
            self.count_failure(request.authorization.as_deref().unwrap_or_default());
        }
        let reply = subject.ask(&request);
        self.check(operation, shown, &request, &verdict, &reply);
        self.compare_with_absent(operation, shown, &request, &verdict, &reply, subject);
    }

    fn describe(&self, shown: &Shown) -> String {
        let who = |who: &Who| match who.account {
            Some(index) => format!("{} (account {index}, limits {:?})", self.accounts[index].name, who.limits),
            None => "anonymous".to_owned(),
        };
        match shown {
            Shown::Basic(principal) => format!("Basic of {}", who(principal)),
            Shown::Bearer(principal, scopes) => format!("Bearer of {} for {scopes:?}", who(principal)),
            other => format!("{other:?}"),
        }
    }

    fn phrase(&self, operation: &Operation) -> Request {
        use Operation::*;
        let mut content_type = None;
        let mut body: &[u8] = b"";
        let (method, path) = match operation {
            Base => ("GET", "/v2/".to_owned()),
            Catalog => ("GET", "/v2/_catalog".to_owned()),
            Tags { name } => ("GET", format!("/v2/{name}/tags/list")),
            Referrers { name, manifest } => ("GET", format!("/v2/{name}/referrers/{}", MANIFESTS[*manifest].digest)),
            ManifestRead { name, reference, head } => {
                (if *head { "HEAD" } else { "GET" }, format!("/v2/{name}/manifests/{}", reference.text()))
            }
            ManifestPut { name, reference, manifest } => {
                content_type = Some(media_type::MANIFEST);
                body = &MANIFESTS[*manifest].bytes;
                ("PUT", format!("/v2/{name}/manifests/{}", reference.text()))
            }
            ManifestDelete { name, reference } => ("DELETE", format!("/v2/{name}/manifests/{}", reference.text())),
            BlobRead { name, blob, head } => {
                (if *head { "HEAD" } else { "GET" }, format!("/v2/{name}/blobs/{}", BLOBS[*blob].digest))
            }
            BlobDelete { name, blob } => ("DELETE", format!("/v2/{name}/blobs/{}", BLOBS[*blob].digest)),
            Begin { name, .. } => ("POST", format!("/v2/{name}/blobs/uploads/")),
            Whole { name, blob } => {
                body = &BLOBS[*blob].bytes;
                ("POST", format!("/v2/{name}/blobs/uploads/?digest={}", BLOBS[*blob].digest))
            }
            Mount { name, blob, from } => {
                let from = from.as_ref().map(|from| format!("&from={from}")).unwrap_or_default();
                ("POST", format!("/v2/{name}/blobs/uploads/?mount={}{from}", BLOBS[*blob].digest))
            }
            UploadStatus { name, id } => ("GET", format!("/v2/{name}/blobs/uploads/{id}")),
            UploadCancel { name, id } => ("DELETE", format!("/v2/{name}/blobs/uploads/{id}")),
            UploadAppend { name, id } => {
                body = self.missing(id);
                body = &body[..body.len().min(CHUNK)];
                ("PATCH", format!("/v2/{name}/blobs/uploads/{id}"))
            }
            UploadFinish { name, id } => {
                body = self.missing(id);
                let upload = self.uploads.iter().find(|upload| upload.id == *id);
                let digest = &BLOBS[upload.map_or(0, |upload| upload.blob)].digest;
                ("PUT", format!("/v2/{name}/blobs/uploads/{id}?digest={digest}"))
            }
        };
        Request { method, path, authorization: None, content_type, body: body.to_vec() }
    }

    /// What an upload still lacks.
    fn missing(&self, id: &str) -> &'static [u8] {
        let upload = self.uploads.iter().find(|upload| upload.id == id);
        upload.map_or(b"nothing", |upload| &BLOBS[upload.blob].bytes[upload.size..])
    }

    fn some_credential(&mut self) -> (Shown, Option<String>) {
        match self.dice.within(0..100) {
            0..6 => (Shown::Nothing, None),
            6..28 => self.some_login(),
            28..30 => (Shown::WrongBearer, Some("Bearer bm9uc2Vuc2U.e30.c2ln".to_owned())),
            _ => {
                let count = self.bearers.len() as u64;
                if count == 0 {
                    return (Shown::Nothing, None);
                }
                let bearer = self.bearers[self.dice.within(0..count) as usize].clone();
                let shown = match self.who(&bearer.via) {
                    Some(who) => Shown::Bearer(who, bearer.scopes),
                    None => Shown::WrongBearer,
                };
                (shown, Some(format!("Bearer {}", bearer.token)))
            }
        }
    }

    /// A user name with a password or a personal access token, as it stands in a Basic header.
    pub(super) fn some_login(&mut self) -> (Shown, Option<String>) {
        let (shown, authorization, _) = self.some_login_and_via();
        (shown, authorization)
    }

    pub(super) fn some_login_and_via(&mut self) -> (Shown, Option<String>, Via) {
        let (via, name, secret) = match self.dice.percent(65) {
            true => {
                let index = self.dice.within(0..self.tokens.len() as u64) as usize;
                let token = &self.tokens[index];
                (Via::Token(index), self.accounts[token.owner].name.clone(), token.secret.clone())
            }
            false => {
                // Robots have no password, and old passwords and removed accounts do not count: wrong logins.
                let account = self.dice.within(0..self.accounts.len() as u64) as usize;
                let current = self.accounts[account].password;
                let number = if self.dice.percent(90) { current } else { current.saturating_sub(1) };
                let via = Via::Password { account, password: number };
                (via, self.accounts[account].name.clone(), self.password(account, number))
            }
        };
        // The first administrator's password never changes, whatever number one gives it.
        let via = match via {
            Via::Password { account: 0, .. } => Via::Password { account: 0, password: 0 },
            via => via,
        };
        let robot = matches!(via, Via::Password { account, .. } if self.accounts[account].robot);
        let who = if robot { None } else { self.who(&via) };
        match who {
            Some(who) => (Shown::Basic(who), Some(basic(&name, &secret)), via),
            None if self.may_fail(&name) => (Shown::WrongBasic, Some(basic(&name, &secret)), via),
            None => (Shown::Nothing, None, via),
        }
    }

    pub(super) fn may_fail(&self, name: &str) -> bool {
        self.failures.get(name).copied().unwrap_or(0) < self.most_failures
    }

    /// The server slows the names that fail often; the model lets it be.
    pub(super) fn count_failure(&mut self, authorization: &str) {
        use base64::Engine;
        let pair = authorization.strip_prefix("Basic ").unwrap_or_default();
        let pair = base64::engine::general_purpose::STANDARD.decode(pair).unwrap_or_default();
        let name = String::from_utf8_lossy(&pair).split(':').next().unwrap_or_default().to_owned();
        *self.failures.entry(name).or_default() += 1;
    }
}
