//! What an answer must be, to the content of lists, and what it does to the world.

use std::collections::BTreeSet;

use serde_json::Value;

use super::asking::{CHUNK, Operation, Reference};
use super::content::{BLOBS, MANIFESTS};
use super::reference::{Action, Need, Shown, Verdict, Who, may};
use super::world::{Repository, Upload};
use super::{Reply, Request, Subject, World};

/// What was expected where something else came.
type Wrong = Result<(), String>;

impl World {
    pub(super) fn check(
        &mut self,
        operation: &Operation,
        shown: &Shown,
        request: &Request,
        verdict: &Verdict,
        reply: &Reply,
    ) {
        let outcome = match verdict {
            Verdict::Unauthorized(error) => {
                self.counts.unauthorized += 1;
                self.counts.ended_tokens +=
                    usize::from(matches!(shown, Shown::WrongBearer) && request_is_ours(request));
                check_challenge(&operation.need(), *error, reply)
            }
            Verdict::Denied => {
                self.counts.denied += 1;
                is(reply, 403).and_then(|()| code(request, reply, "DENIED"))
            }
            Verdict::Absent => {
                self.counts.absent += 1;
                match operation {
                    Operation::Referrers { .. } => is(reply, 200).and_then(|()| listed(reply, "manifests", &[])),
                    _ => is(reply, 404),
                }
            }
            Verdict::Go => {
                self.counts.carried_out += 1;
                match shown {
                    Shown::Basic(who) | Shown::Bearer(who, _) => self.carry_out(operation, who, reply),
                    _ => unreachable!("nothing is carried out for nobody"),
                }
            }
        };
        if let Err(wrong) = outcome {
            panic!("{wrong}\n{request:#?}\nwas answered\n{reply:#?}\n{}", self.story());
        }
    }

    fn carry_out(&mut self, operation: &Operation, who: &Who, reply: &Reply) -> Wrong {
        use Operation::*;
        let nothing = Repository::default();
        match operation {
            Base => is(reply, 200),
            Catalog => {
                let visible = |(name, repository): &(&String, &Repository)| {
                    !repository.manifests.is_empty() && may(self, who, Action::Pull, name)
                };
                let names: Vec<&str> =
                    self.repositories.iter().filter(visible).map(|(name, _)| name.as_str()).collect();
                is(reply, 200).and_then(|()| listed(reply, "repositories", &names))
            }
            Tags { name } => match self.repositories.get(name) {
                Some(repository) => {
                    let tags: Vec<&str> = repository.tags.keys().map(String::as_str).collect();
                    is(reply, 200).and_then(|()| listed(reply, "tags", &tags))
                }
                None => is(reply, 404),
            },
            Referrers { name, manifest } => {
                let there = self.repositories.get(name).unwrap_or(&nothing).manifests.iter();
                let referrers = there.filter(|index| MANIFESTS[**index].subject == Some(*manifest));
                let digests: BTreeSet<&str> = referrers.map(|index| MANIFESTS[*index].digest.as_str()).collect();
                is(reply, 200).and_then(|()| listed(reply, "manifests", &Vec::from_iter(digests)))
            }
            ManifestRead { name, reference, head } => match self.resolve(name, reference) {
                Some(manifest) => is(reply, 200).and_then(|()| holds(reply, *head, &MANIFESTS[manifest].bytes)),
                None => is(reply, 404),
            },
            ManifestPut { name, reference, manifest } => {
                let blobs = &self.repositories.get(name).unwrap_or(&nothing).blobs;
                if !MANIFESTS[*manifest].needs.iter().all(|blob| blobs.contains(blob)) {
                    return is(reply, 404);
                }
                let repository = self.ensure(name);
                repository.manifests.insert(*manifest);
                if let Reference::Tag(tag) = reference {
                    repository.tags.insert(tag.clone(), *manifest);
                }
                is(reply, 201)
            }
            ManifestDelete { name, reference } => {
                let Some(manifest) = self.resolve(name, reference) else { return is(reply, 404) };
                let repository = self.ensure(name);
                match reference {
                    Reference::Tag(tag) => {
                        repository.tags.remove(tag);
                    }
                    Reference::Digest(_) => {
                        repository.manifests.remove(&manifest);
                        repository.tags.retain(|_, tagged| *tagged != manifest);
                    }
                }
                is(reply, 202)
            }
            BlobRead { name, blob, head } => {
                match self.repositories.get(name).is_some_and(|repository| repository.blobs.contains(blob)) {
                    true => is(reply, 200).and_then(|()| holds(reply, *head, &BLOBS[*blob].bytes)),
                    false => is(reply, 404),
                }
            }
            BlobDelete { name, blob } => {
                let Some(repository) = self.repositories.get_mut(name) else { return is(reply, 404) };
                if repository.manifests.iter().any(|index| MANIFESTS[*index].needs.contains(blob)) {
                    return is(reply, 405);
                }
                is(reply, if repository.blobs.remove(blob) { 202 } else { 404 })
            }
            Begin { name, blob } => is(reply, 202).and_then(|()| self.begun(name, *blob, who, reply)),
            Whole { name, blob } => {
                self.ensure(name).blobs.insert(*blob);
                is(reply, 201)
            }
            Mount { name, blob, from } => {
                if !self.mountable(who, name, *blob, from.as_deref()) {
                    return is(reply, 202).and_then(|()| self.begun(name, *blob, who, reply));
                }
                self.counts.mounts += 1;
                self.ensure(name).blobs.insert(*blob);
                is(reply, 201)
            }
            UploadStatus { name, id } => match self.find(name, id, who) {
                Some(index) => {
                    let range = format!("0-{}", self.uploads[index].size.saturating_sub(1));
                    match reply.header("range") {
                        Some(found) if found == range => is(reply, 204),
                        other => Err(format!("the range must be {range}, not {other:?}")),
                    }
                }
                None => is(reply, 404),
            },
            UploadAppend { name, id } => match self.find(name, id, who) {
                Some(index) => {
                    let upload = &mut self.uploads[index];
                    upload.size = BLOBS[upload.blob].bytes.len().min(upload.size + CHUNK);
                    is(reply, 202)
                }
                None => is(reply, 404),
            },
            UploadFinish { name, id } => match self.find(name, id, who) {
                Some(index) => {
                    let upload = self.uploads.swap_remove(index);
                    self.ensure(name).blobs.insert(upload.blob);
                    is(reply, 201)
                }
                None => is(reply, 404),
            },
            UploadCancel { name, id } => match self.find(name, id, who) {
                Some(index) => {
                    self.uploads.swap_remove(index);
                    is(reply, 204)
                }
                None => is(reply, 404),
            },
        }
    }

    fn resolve(&self, name: &str, reference: &Reference) -> Option<usize> {
        let repository = self.repositories.get(name)?;
        match reference {
            Reference::Tag(tag) => repository.tags.get(tag).copied(),
            Reference::Digest(manifest) => repository.manifests.contains(manifest).then_some(*manifest),
        }
    }

    /// A blob is mounted if the caller may read it somewhere; with a credential that has limits of its own, the
    /// place must be the one that they name, or the repository itself.
    fn mountable(&self, who: &Who, into: &str, blob: usize, from: Option<&str>) -> bool {
        let readable = |name: &str| {
            let there = self.repositories.get(name).is_some_and(|repository| repository.blobs.contains(&blob));
            there && may(self, who, Action::Pull, name)
        };
        match who.limits {
            None => self.repositories.keys().any(|name| readable(name)),
            Some(_) => readable(into) || from.is_some_and(readable),
        }
    }

    /// An upload is known to those who began it, where they began it.
    fn find(&mut self, name: &str, id: &str, who: &Who) -> Option<usize> {
        let index = self.uploads.iter().position(|upload| upload.id == id)?;
        let upload = &self.uploads[index];
        if upload.account != who.account {
            self.counts.foreign_uploads += 1;
        }
        (upload.repository == name && upload.account == who.account).then_some(index)
    }

    fn begun(&mut self, name: &str, blob: usize, who: &Who, reply: &Reply) -> Wrong {
        let location = reply.header("location").unwrap_or_default();
        let id = location.strip_prefix(&format!("/v2/{name}/blobs/uploads/"));
        let id = id.ok_or_else(|| format!("`{location}` is no location of an upload in {name}"))?;
        // Old ones stay as they are: there are always enough to choose from.
        if self.uploads.len() > 40 {
            self.uploads.remove(0);
        }
        self.uploads.push(Upload {
            id: id.to_owned(),
            repository: name.to_owned(),
            account: who.account,
            blob,
            size: 0,
        });
        Ok(())
    }

    /// What hides behind an answer must not show: asked about a name that nobody ever used, the server says the
    /// same, to the byte, apart from that name and the ids of requests.
    pub(super) fn compare_with_absent(
        &mut self,
        operation: &Operation,
        shown: &Shown,
        request: &Request,
        verdict: &Verdict,
        reply: &Reply,
        subject: &mut impl Subject,
    ) {
        let Some((name, elsewhere)) = operation.elsewhere() else { return };
        let path = request.path.replacen(&format!("/v2/{name}/"), &format!("/v2/{elsewhere}/"), 1);
        let there = Request { path, ..request.clone() };
        let there = match (verdict, operation) {
            // To those who may everything, it is truly absent there.
            (Verdict::Absent, _) => self.as_admin(there),
            // Found absent here by those who may look.
            (Verdict::Go, Operation::ManifestPut { .. } | Operation::Whole { .. } | Operation::Mount { .. }) => return,
            (Verdict::Go, _) if reply.status == 404 => self.as_admin(there),
            (Verdict::Unauthorized(_), _) if !matches!(shown, Shown::WrongBasic) && self.dice.percent(25) => there,
            (Verdict::Denied, _) if matches!(shown, Shown::Basic(_)) && refused_push(operation) => there,
            _ => return,
        };
        let twin = subject.ask(&there);
        self.counts.compared += 1;
        let (ours, theirs) = (without_ids(reply, &name, &elsewhere), without_ids(&twin, &name, &elsewhere));
        assert_eq!(
            ours,
            theirs,
            "the answer differs from the one about a name that does not exist:\n{request:#?}\nagainst {there:#?}\n{}",
            self.story()
        );
    }
}

fn refused_push(operation: &Operation) -> bool {
    matches!(operation.need(), Need::Repository(_, Action::Push))
}

fn request_is_ours(request: &Request) -> bool {
    request.authorization.as_ref().is_some_and(|value| !value.contains("bm9uc2Vuc2U"))
}

/// Status, headers and body, with the one name in place of the other and without ids and times.
fn without_ids(reply: &Reply, name: &str, elsewhere: &str) -> String {
    let mut text = format!("{}\n", reply.status);
    let mut headers: Vec<_> =
        reply.headers.iter().filter(|(header, _)| !matches!(header.as_str(), "x-request-id" | "date")).collect();
    headers.sort();
    headers.iter().for_each(|(header, value)| text.push_str(&format!("{header}: {value}\n")));
    text.push_str(&String::from_utf8_lossy(&reply.body));
    for (before, after) in [("`", "`"), ("repository:", ":"), ("/v2/", "/")] {
        text = text.replace(&format!("{before}{name}{after}"), &format!("{before}{elsewhere}{after}"));
    }
    text
}

fn is(reply: &Reply, status: u16) -> Wrong {
    match reply.status == status {
        true => Ok(()),
        false => Err(format!("the status must be {status}, not {}", reply.status)),
    }
}

fn json(reply: &Reply) -> Result<Value, String> {
    serde_json::from_slice(&reply.body).map_err(|error| format!("the body is no JSON: {error}"))
}

fn code(request: &Request, reply: &Reply, code: &str) -> Wrong {
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = json(reply)?;
    match body["errors"][0]["code"] == code {
        true => Ok(()),
        false => Err(format!("the code must be {code}: {body}")),
    }
}

fn holds(reply: &Reply, head: bool, bytes: &[u8]) -> Wrong {
    match head || reply.body == bytes {
        true => Ok(()),
        false => Err("the body is another one".to_owned()),
    }
}

/// Whether the list has exactly these entries; of descriptors, these digests in any order.
fn listed(reply: &Reply, field: &str, expected: &[&str]) -> Wrong {
    let body = json(reply)?;
    let entries = body[field].as_array().ok_or_else(|| format!("no list `{field}`: {body}"))?;
    let text = |entry: &Value| entry.as_str().or_else(|| entry["digest"].as_str()).unwrap_or_default().to_owned();
    let mut found: Vec<String> = entries.iter().map(text).collect();
    if field == "manifests" {
        found.sort();
    }
    match found == expected {
        true => Ok(()),
        false => Err(format!("`{field}` must be {expected:?}, not {found:?}")),
    }
}

fn check_challenge(need: &Need, error: Option<&str>, reply: &Reply) -> Wrong {
    is(reply, 401)?;
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    let parameters = challenge.strip_prefix("Bearer ").ok_or_else(|| format!("no Bearer challenge: {challenge}"))?;
    let find = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let scope = match need {
        Need::Token => None,
        Need::Catalog => Some("registry:catalog:*".to_owned()),
        // Who pushes also looks at what is there.
        Need::Repository(name, Action::Push) => Some(format!("repository:{name}:pull,push")),
        Need::Repository(name, action) => Some(format!("repository:{name}:{}", action.word())),
    };
    let realm = find("realm").is_some_and(|realm| realm.starts_with("http://") && realm.ends_with("/token"));
    match realm && find("service").is_some() && find("scope") == scope.as_deref() && find("error") == error {
        true => Ok(()),
        false => Err(format!("the challenge must have the scope {scope:?} and the error {error:?}: {challenge}")),
    }
}
