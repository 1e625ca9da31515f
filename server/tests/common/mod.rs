//! The server in the process of a test, on SQLite and a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cove_oci::{Action, RepositoryName};
use cove_server::auth::{PERSONAL_PREFIX, hash_password, new_secret, secret_hash};
use cove_server::blobs::{BlobStore, Folder};
use cove_server::metadata::{AccountKind, MetadataStore, Policy, TokenKind, TokenRow, Visibility, now_ms};
use cove_server::routes::router;
use cove_server::state::{Behaviour, Server};
use cove_tests::rights::{Change, Reply, Request, Subject, reference};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

pub const ADMIN_PASSWORD: &str = "password-of-the-administrator";

/// The router, and the database beside it.
pub struct InProcess {
    pub runtime: Runtime,
    router: Router,
    pub server: Arc<Server>,
    pub store: MetadataStore,
    /// Ids of tokens, by the names that the model gives them.
    pub tokens: HashMap<String, i64>,
    pub folder: tempfile::TempDir,
}

impl InProcess {
    pub fn start(default_public: bool) -> Self {
        let folder = match std::path::Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm").unwrap(), // thousands of fsyncs
            false => tempfile::tempdir().unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, server) = runtime.block_on(async {
            let visibility = if default_public { Visibility::Public } else { Visibility::Private };
            let policy = Policy { grace: Duration::from_secs(24 * 3600), visibility };
            let url = format!("sqlite://{}", folder.path().join("cove.db").display());
            let store = MetadataStore::open(&url, policy).await.unwrap();
            store.add_first_account("admin", &hash_password(ADMIN_PASSWORD).unwrap()).await.unwrap();
            let blobs = BlobStore::Folder(Folder::open(&folder.path().join("blobs"), true).unwrap());
            let behaviour = Behaviour {
                no_auth: false,
                sparse_images: false,
                public_url: None,
                trusted_proxies: Vec::new(),
                idle_timeout: Duration::from_secs(60),
            };
            (store.clone(), Server::new(store, blobs, behaviour).await.unwrap())
        });
        InProcess { runtime, router: router(server.clone()), server, store, tokens: HashMap::new(), folder }
    }

    async fn account(&self, name: &str) -> i64 {
        self.store.account(name).await.unwrap().expect("the account is there").id
    }

    async fn grantee(&self, name: Option<&String>) -> Option<i64> {
        match name {
            Some(name) => Some(self.account(name).await),
            None => None,
        }
    }

    async fn carry_out(&self, change: &Change) -> (String, Option<i64>) {
        let store = &self.store;
        let done = match change {
            Change::AddAccount { name, robot, administrator, password } => {
                let kind = if *robot { AccountKind::Robot } else { AccountKind::User };
                let hash = (!robot).then(|| hash_password(password).unwrap());
                store.add_account(name, kind, *administrator, hash.as_deref()).await.unwrap();
                true
            }
            Change::SetPassword { name, password } => {
                store.set_password(name, &hash_password(password).unwrap()).await.unwrap()
            }
            Change::SetDisabled { name, disabled } => store.set_disabled(name, *disabled).await.unwrap(),
            Change::RemoveAccount { name } => store.remove_account(name).await.unwrap(),
            Change::CreateToken { account, name, limits, expired } => {
                let secret = new_secret(PERSONAL_PREFIX);
                let token = TokenRow {
                    id: 0,
                    account_id: self.account(account).await,
                    kind: TokenKind::Personal,
                    name: name.clone(),
                    scopes: limits.as_ref().map(|limits| limits.scopes().join(" ")).unwrap_or_default(),
                    source_token_id: None,
                    password_version: None,
                    created_ms: 0,
                    expires_ms: expired.then(|| now_ms() - 1),
                    used_ms: None,
                };
                let id = store.add_token(&token, &secret_hash(&secret)).await.unwrap();
                return (secret, Some(id));
            }
            Change::RevokeToken { name, .. } => store.revoke_token(self.tokens[name]).await.unwrap(),
            Change::Grant { to, pattern, level } => {
                store.grant(self.grantee(to.as_ref()).await, pattern, action(*level)).await.unwrap();
                true
            }
            Change::Revoke { to, pattern } => {
                store.revoke_grant(self.grantee(to.as_ref()).await, pattern).await.unwrap()
            }
            Change::SetVisibility { repository, public } => {
                let visibility = if *public { Visibility::Public } else { Visibility::Private };
                store.set_visibility(&name(repository), visibility).await.unwrap();
                true
            }
            Change::RemoveRepository { repository } => store.remove_repository(&name(repository)).await.unwrap(),
        };
        assert!(done, "{change:?} found nothing to change");
        (String::new(), None)
    }
}

fn action(action: reference::Action) -> Action {
    action.word().parse().unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

impl Subject for InProcess {
    fn ask(&mut self, request: &Request) -> Reply {
        let mut asked = http::Request::builder().method(request.method).uri(&request.path).header("host", "localhost");
        if let Some(authorization) = &request.authorization {
            asked = asked.header("authorization", authorization);
        }
        if let Some(content_type) = request.content_type {
            asked = asked.header("content-type", content_type);
        }
        let asked = asked.header("content-length", request.body.len()).body(Body::from(request.body.clone())).unwrap();
        let router = self.router.clone();
        self.runtime.block_on(async {
            let (parts, body) = router.oneshot(asked).await.unwrap().into_parts();
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            Reply {
                status: parts.status.as_u16(),
                headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
                body: body.collect().await.unwrap().to_bytes().to_vec(),
            }
        })
    }

    fn change(&mut self, change: &Change) -> String {
        let (secret, id) = self.runtime.block_on(self.carry_out(change));
        if let (Some(id), Change::CreateToken { name, .. }) = (id, change) {
            self.tokens.insert(name.clone(), id);
        }
        secret
    }

    fn admin_password(&self) -> String {
        ADMIN_PASSWORD.to_owned()
    }
}
