//! Tokens bought from the token service: what they cover is compared too.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::reference::{Action, Scopes, Shown, Who, may};
use super::world::{Bearer, Via};
use super::{Reply, Request, Subject, World, reference_list};

/// Most bearer tokens that are kept in mind.
const KEPT: usize = 60;
/// Bearer tokens last for 15 minutes; the model has nothing to do with that.
const USED_FOR: Duration = Duration::from_secs(600);

/// What a login leads to.
struct Buyer {
    via: Option<Via>,
    who: Option<Who>,
    authorization: Option<String>,
    refresher: Option<String>,
    name: String,
}

impl World {
    /// Asks the token service for a token, and keeps it.
    pub(super) fn buy_token(&mut self, subject: &mut impl Subject) {
        self.bearers.retain(|bearer| bearer.since.elapsed() < USED_FOR);
        let Some(buyer) = self.some_buyer() else { return };
        let (asked, catalog) = self.some_scopes();
        let offline = buyer.refresher.is_none() && self.dice.percent(15);
        let request = phrase(&buyer, &asked, catalog, offline);
        self.counts.requests += 1;
        self.note(format!("token for {:?}, scopes {asked:?}, catalog {catalog}", buyer.via));
        if buyer.who.is_none() {
            *self.failures.entry(buyer.name.clone()).or_default() += 1;
        }
        let reply = subject.ask(&request);
        let nothing_asked = asked.is_empty() && !catalog;
        let who = buyer.who.as_ref().filter(|who| who.account.is_some() || !nothing_asked);
        let Some(who) = who else {
            assert_eq!(reply.status, 401, "{request:#?}\nwas answered\n{reply:#?}\n{}", self.story());
            self.counts.unauthorized += 1;
            return;
        };
        let scopes = self.expected(who, &asked, catalog);
        let token = self.check_token(&request, &reply, &scopes);
        let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let via = buyer.via.expect("who has a credential");
        match answer["refresh_token"].as_str() {
            Some(refresher) => self.refreshers.push((refresher.to_owned(), via.clone())),
            None => assert!(!offline || who.account.is_none(), "a refresh token was asked for: {request:#?}"),
        }
        self.counts.carried_out += 1;
        if self.bearers.len() == KEPT {
            let index = self.dice.within(0..KEPT as u64) as usize;
            self.bearers.swap_remove(index);
        }
        self.bearers.push(Bearer { token, via, scopes, since: Instant::now() });
    }

    fn some_buyer(&mut self) -> Option<Buyer> {
        let anonymous = || Buyer {
            via: Some(Via::Anonymous),
            who: None,
            authorization: None,
            refresher: None,
            name: String::new(),
        };
        match self.dice.within(0..100) {
            0..15 => Some(Buyer { who: self.who(&Via::Anonymous), ..anonymous() }),
            15..35 if !self.refreshers.is_empty() => {
                let index = self.dice.within(0..self.refreshers.len() as u64) as usize;
                let (refresher, via) = self.refreshers[index].clone();
                let who = self.who(&via);
                // What ended stays ended, and failures are slowed: not again.
                if who.is_none() {
                    self.refreshers.swap_remove(index);
                }
                (who.is_some() || self.may_fail("")).then_some(Buyer {
                    via: Some(via),
                    who,
                    authorization: None,
                    refresher: Some(refresher),
                    name: String::new(),
                })
            }
            _ => {
                let (shown, authorization, via) = self.some_login_and_via();
                let who = match shown {
                    Shown::Basic(who) => Some(who),
                    _ => None,
                };
                authorization.as_ref()?;
                let name = match &via {
                    Via::Token(index) => self.accounts[self.tokens[*index].owner].name.clone(),
                    Via::Password { account, .. } => self.accounts[*account].name.clone(),
                    Via::Anonymous => String::new(),
                };
                Some(Buyer { via: Some(via), who, authorization, refresher: None, name })
            }
        }
    }

    fn some_scopes(&mut self) -> (Vec<(String, Vec<Action>)>, bool) {
        let count = self.dice.within(0..6);
        let scope = |world: &mut World| {
            let chosen: Vec<Action> = Action::ALL.into_iter().filter(|_| world.dice.percent(65)).collect();
            (world.some_name(), if chosen.is_empty() { Action::ALL.to_vec() } else { chosen })
        };
        ((0..count).map(|_| scope(self)).collect(), self.dice.percent(25))
    }

    fn expected(&self, who: &Who, asked: &[(String, Vec<Action>)], catalog: bool) -> Scopes {
        let within = |(name, actions): &(String, Vec<Action>)| {
            let actions: Vec<Action> = actions.iter().copied().filter(|action| may(self, who, *action, name)).collect();
            (!actions.is_empty()).then(|| (name.clone(), actions))
        };
        let catalog = catalog && who.limits.as_ref().is_none_or(|limits| limits.catalog);
        Scopes { repositories: asked.iter().filter_map(within).collect(), catalog }
    }

    fn check_token(&self, request: &Request, reply: &Reply, scopes: &Scopes) -> String {
        let story = || format!("{request:#?}\nwas answered\n{reply:#?}\n{}", self.story());
        assert_eq!(reply.status, 200, "{}", story());
        let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let token = answer["token"].as_str().unwrap_or_else(|| panic!("no token: {}", story()));
        assert_eq!(answer["access_token"].as_str(), Some(token), "{}", story());
        let payload = token.split('.').nth(1).expect("three parts");
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON");
        let entry = |(name, actions): &(String, Vec<Action>)| {
            let actions: Vec<&str> = actions.iter().map(|action| action.word()).collect();
            json!({ "type": "repository", "name": name, "actions": actions })
        };
        let catalog = scopes.catalog.then(|| json!({ "type": "registry", "name": "catalog", "actions": ["*"] }));
        let expected: Vec<Value> = scopes.repositories.iter().map(entry).chain(catalog).collect();
        assert_eq!(claims["access"], Value::from(expected), "{}", story());
        token.to_owned()
    }
}

fn phrase(buyer: &Buyer, asked: &[(String, Vec<Action>)], catalog: bool, offline: bool) -> Request {
    let scope = |(name, actions): &(String, Vec<Action>)| {
        let actions = match actions.len() {
            4 => "*".to_owned(),
            _ => reference_list(actions),
        };
        format!("repository:{name}:{actions}")
    };
    let mut scopes: Vec<String> = asked.iter().map(scope).collect();
    scopes.extend(catalog.then(|| "registry:catalog:*".to_owned()));
    match &buyer.refresher {
        Some(refresher) => Request {
            method: "POST",
            path: "/token".to_owned(),
            authorization: None,
            content_type: Some("application/x-www-form-urlencoded"),
            body: format!("grant_type=refresh_token&refresh_token={refresher}&scope={}", scopes.join("+")).into_bytes(),
        },
        None => {
            let scopes: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
            let offline = if offline { "&offline_token=true" } else { "" };
            Request {
                method: "GET",
                path: format!("/token?service=cove-server{scopes}{offline}"),
                authorization: buyer.authorization.clone(),
                content_type: None,
                body: Vec::new(),
            }
        }
    }
}
