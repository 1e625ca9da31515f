//! Clients that push at random and remember what they were promised.
//!
//! Each [`Pusher`] has a repository of its own and does one thing after another there, so at any moment it knows
//! what the registry must show: what was acknowledged is there to the byte, a request whose answer never came
//! has been carried out or not, and there is nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Answer, Dice, Login, Registry, Wire, media_type, sha256};

/// What pushers do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Bytes of the largest blobs.
    pub largest: u64,
    /// How long the server keeps what is unused. Blobs that no manifest needs are looked for only if that is
    /// longer than a test. A client may rely on a blob for half of it.
    pub grace: Duration,
    /// The end is a power cut. A real one leaves no server that could answer; this one does, and the kernel may
    /// tell it then that a sync was successful. So only answers from before count.
    pub power_cut: bool,
}

impl Workload {
    fn keeps_all(&self) -> bool {
        self.grace >= Duration::from_secs(600)
    }
}

/// Several pushers at once.
pub struct Pushers {
    pushers: Vec<Pusher>,
}

/// One client.
pub struct Pusher {
    repository: String,
    neighbours: Vec<String>,
    workload: Workload,
    dice: Dice,
    /// What each tag may point to: one thing, or two while nobody knows; nothing is `None`.
    tags: BTreeMap<String, Vec<Option<String>>>,
    /// Manifests that never had a tag, likewise: they stay until they are deleted.
    untagged: BTreeMap<String, Vec<bool>>,
    /// Every manifest that was ever sent, with the blobs that it needs.
    manifests: HashMap<String, (Vec<u8>, Vec<String>)>,
    /// Blobs that were acknowledged and not deleted since, with their lengths.
    blobs: BTreeMap<String, u64>,
    /// Blobs that were sent, which may be there or not, but never half.
    doubtful: BTreeMap<String, u64>,
    /// Blobs that were looked at, byte for byte, since they were pushed.
    seen: BTreeSet<String>,
    /// Where the next requests go.
    server: (String, Login),
    /// The end is about to come.
    coming: Arc<AtomicBool>,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
}

const TAGS: u64 = 5;
/// Blobs that all pushers know.
const SHARED: u64 = 6;

impl Pushers {
    /// So many pushers, which push to `PREFIX/pusher-N`.
    pub fn new(count: usize, prefix: &str, workload: Workload, dice: &mut Dice) -> Self {
        let repositories: Vec<_> = (0..count).map(|number| format!("{prefix}/pusher-{number}")).collect();
        let pushers = repositories.iter().map(|repository| Pusher {
            repository: repository.clone(),
            neighbours: repositories.clone(),
            workload,
            dice: dice.split(),
            tags: BTreeMap::new(),
            untagged: BTreeMap::new(),
            manifests: HashMap::new(),
            blobs: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            seen: BTreeSet::new(),
            server: (String::new(), Login::new("", "")),
            coming: Arc::default(),
            acknowledged: 0,
        });
        Self { pushers: pushers.collect() }
    }

    /// Lets all of them push to the server for some time, and then does what ends it. An error before that is
    /// the server's fault.
    pub fn push_for(&mut self, time: Duration, address: &str, login: &Login, end: impl FnOnce()) {
        let (coming, over) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
        thread::scope(|scope| {
            for pusher in &mut self.pushers {
                (pusher.server, pusher.coming) = ((address.to_owned(), login.clone()), coming.clone());
                scope.spawn(|| pusher.push_on(&over));
            }
            thread::sleep(time);
            coming.store(true, Ordering::SeqCst);
            end();
            over.store(true, Ordering::SeqCst);
        });
    }

    /// Compares the registry with what was promised. `all` looks at every byte, else at those of new blobs.
    pub fn verify(&mut self, registry: &Registry, all: bool) {
        thread::scope(|scope| {
            for pusher in &mut self.pushers {
                scope.spawn(|| pusher.verify(registry, all));
            }
        });
    }

    /// Requests that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.pushers.iter().map(|pusher| pusher.acknowledged).sum()
    }
}

/// The answer, if it is one of those that there may be. That a server fails whose disk has just gone is an error
/// like a connection that breaks; any other answer ends the test.
fn one_of(answer: Answer, statuses: &[u16]) -> io::Result<Answer> {
    if answer.status >= 500 {
        return Err(io::Error::other(answer.to_string()));
    }
    assert!(statuses.contains(&answer.status), "a push beside others must not fail: {answer}");
    Ok(answer)
}

impl Pusher {
    fn push_on(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            if let Err(error) = self.step() {
                assert!(self.coming.load(Ordering::SeqCst), "the server failed of its own will: {error}");
                return;
            }
        }
    }

    fn step(&mut self) -> io::Result<()> {
        match self.dice.within(0..100) {
            0..70 => self.push_image(),
            70..80 => self.delete_tag(),
            80..85 => self.delete_untagged(),
            85..90 => self.push_blob().map(drop),
            90..95 => self.delete_blob(),
            _ => self.abandon_upload(),
        }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let (address, login) = &self.server;
        let answer = Wire::ask(address, login, method, path, headers, body)?;
        if self.workload.power_cut && self.coming.load(Ordering::SeqCst) {
            return Err(io::Error::other("answered without power"));
        }
        self.acknowledged += u64::from((200..300).contains(&answer.status));
        Ok(answer)
    }

    /// Pushes what docker would: blobs that are not there, the configuration, the manifest.
    fn push_image(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let mut layers = Vec::new();
        for _ in 0..self.dice.within(1..4) {
            layers.push(match self.dice.percent(25) {
                true => self.push_known_blob()?,
                false => self.push_blob()?,
            });
        }
        let config = json!({ "os": "linux", "architecture": "amd64", "created_by": self.dice.number() }).to_string();
        let config = (self.push(config.as_bytes(), None)?, config.len() as u64);
        let describe =
            |kind: &str, (digest, size): &(String, u64)| json!({ "mediaType": kind, "digest": digest, "size": size });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": describe(media_type::CONFIG, &config),
            "layers": layers.iter().map(|layer| describe(media_type::LAYER, layer)).collect::<Vec<_>>(),
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let blobs = layers.into_iter().chain([config]).map(|(digest, _)| digest).collect();
        self.manifests.insert(digest.clone(), (bytes.clone(), blobs));
        let tag = self.dice.percent(85).then(|| format!("tag-{}", self.dice.within(0..TAGS)));
        match &tag {
            Some(tag) => self.tags.entry(tag.clone()).or_insert_with(|| vec![None]).push(Some(digest.clone())),
            None => drop(self.untagged.insert(digest.clone(), vec![false, true])),
        }
        let path = format!("/v2/{}/manifests/{}", self.repository, tag.as_ref().unwrap_or(&digest));
        let answer = self.ask("PUT", &path, &[("Content-Type", media_type::MANIFEST)], &bytes)?;
        // Whoever takes longer than half the grace has been told in time.
        let late = answer.status == 404 && start.elapsed() > self.workload.grace / 2;
        let stored = !late && one_of(answer, &[201])?.status == 201;
        match (tag.and_then(|tag| self.tags.get_mut(&tag)), self.untagged.get_mut(&digest)) {
            (Some(values), _) if stored => drop(values.drain(..values.len() - 1)),
            (Some(values), _) => drop(values.pop()),
            (None, Some(values)) => *values = vec![stored],
            (None, None) => {}
        }
        Ok(())
    }

    /// A new blob, or one that others push too.
    fn push_blob(&mut self) -> io::Result<(String, u64)> {
        let shared = self.dice.percent(15).then(|| self.dice.within(0..SHARED));
        let mut dice = shared.map_or_else(|| self.dice.split(), Dice::new);
        let largest = self.workload.largest;
        let length = match dice.within(0..100) {
            0..60 => dice.within(1_000..50_000),
            60..90 => dice.within(50_000..1_000_000.min(largest)),
            _ => dice.within(1_000_000.min(largest / 2)..largest),
        };
        let bytes = dice.bytes(length);
        let from = shared.and_then(|_| self.dice.pick(&self.neighbours).cloned());
        Ok((self.push(&bytes, from)?, length))
    }

    /// A blob of this repository that is pushed again: not sent if the registry says that it is there.
    fn push_known_blob(&mut self) -> io::Result<(String, u64)> {
        let known: Vec<_> = self.blobs.iter().map(|(digest, length)| (digest.clone(), *length)).collect();
        let Some((digest, length)) = self.dice.pick(&known).cloned() else { return self.push_blob() };
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let gone = if self.workload.keeps_all() { 200 } else { 404 };
        match one_of(self.ask("HEAD", &path, &[], b"")?, &[200, gone])?.status {
            200 => Ok((digest, length)),
            _ => {
                // Collected, as nothing needed it.
                self.blobs.remove(&digest);
                self.push_blob()
            }
        }
    }

    /// Uploads bytes in one of the ways that there are.
    fn push(&mut self, bytes: &[u8], mount_from: Option<String>) -> io::Result<String> {
        let digest = sha256(bytes);
        self.seen.remove(&digest);
        if !self.blobs.contains_key(&digest) {
            self.doubtful.insert(digest.clone(), bytes.len() as u64);
        }
        let uploads = format!("/v2/{}/blobs/uploads/", self.repository);
        let query = format!("digest={digest}");
        let manner = self.dice.within(0..4);
        let begun = match mount_from {
            Some(from) => self.ask("POST", &format!("{uploads}?mount={digest}&from={from}"), &[], b"")?,
            None if manner == 0 => self.ask("POST", &format!("{uploads}?{query}"), &[], bytes)?,
            None => self.ask("POST", &uploads, &[], b"")?,
        };
        let begun = one_of(begun, &[201, 202])?;
        if begun.status == 202 {
            let location = begun.header("Location");
            let location_and_digest = format!("{location}?{query}");
            let rest = match manner {
                0 | 1 => bytes,
                2 => {
                    self.stream(&location, bytes)?;
                    b""
                }
                _ => self.chunks(&location, bytes)?,
            };
            one_of(self.ask("PUT", &location_and_digest, &[], rest)?, &[201])?;
        }
        self.doubtful.remove(&digest);
        self.blobs.insert(digest.clone(), bytes.len() as u64);
        Ok(digest)
    }

    fn stream(&mut self, location: &str, bytes: &[u8]) -> io::Result<()> {
        let (address, login) = &self.server;
        let mut wire = Wire::begin(address, login, "PATCH", location, &[], None)?;
        for piece in bytes.chunks(100_000) {
            wire.send(piece)?;
        }
        one_of(wire.answer()?, &[202])?;
        Ok(())
    }

    /// Sends some chunks and returns what is left.
    fn chunks<'a>(&mut self, location: &str, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let mut at = 0;
        for _ in 0..self.dice.within(1..5) {
            let end = at + self.dice.within(0..(bytes.len() - at) as u64) as usize;
            if end > at {
                let range = format!("{at}-{}", end - 1);
                one_of(self.ask("PATCH", location, &[("Content-Range", &range)], &bytes[at..end])?, &[202])?;
            }
            at = end;
        }
        Ok(&bytes[at..])
    }

    /// Begins an upload and never comes back.
    fn abandon_upload(&mut self) -> io::Result<()> {
        let begun = self.ask("POST", &format!("/v2/{}/blobs/uploads/", self.repository), &[], b"")?;
        let location = one_of(begun, &[202])?.header("Location");
        let length = self.dice.within(1..300_000);
        let bytes = self.dice.bytes(length);
        one_of(self.ask("PATCH", &location, &[], &bytes)?, &[202])?;
        Ok(())
    }

    fn delete_tag(&mut self) -> io::Result<()> {
        let names: Vec<_> = self.tags.keys().cloned().collect();
        let Some(tag) = self.dice.pick(&names).cloned() else { return Ok(()) };
        let values = self.tags.entry(tag.clone()).or_default();
        let status = if values.contains(&None) { 404 } else { 202 };
        values.push(None);
        one_of(self.ask("DELETE", &format!("/v2/{}/manifests/{tag}", self.repository), &[], b"")?, &[status])?;
        self.tags.remove(&tag);
        Ok(())
    }

    fn delete_untagged(&mut self) -> io::Result<()> {
        let digests: Vec<_> = self.untagged.keys().cloned().collect();
        let Some(digest) = self.dice.pick(&digests).cloned() else { return Ok(()) };
        let values = self.untagged.entry(digest.clone()).or_default();
        let status = if values.contains(&false) { 404 } else { 202 };
        values.push(false);
        one_of(self.ask("DELETE", &format!("/v2/{}/manifests/{digest}", self.repository), &[], b"")?, &[status])?;
        self.untagged.remove(&digest);
        Ok(())
    }

    /// Deletes a blob that no manifest needs; one that is needed must be refused.
    fn delete_blob(&mut self) -> io::Result<()> {
        let digests: Vec<_> = self.blobs.keys().cloned().collect();
        let Some(digest) = self.dice.pick(&digests).cloned() else { return Ok(()) };
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let Some(length) = self.blobs.remove(&digest) else { return Ok(()) };
        self.doubtful.insert(digest.clone(), length);
        let gone = if self.workload.keeps_all() { 202 } else { 404 };
        match one_of(self.ask("DELETE", &path, &[], b"")?, &[202, gone, 405])?.status {
            405 => drop(self.blobs.insert(digest.clone(), length)),
            status => assert!(
                status == 404 || !self.needed().contains(&digest),
                "{path}: deleted, although a manifest needs it"
            ),
        }
        self.doubtful.remove(&digest);
        Ok(())
    }

    /// The blobs of all manifests that are certainly there.
    fn needed(&self) -> BTreeSet<String> {
        let tagged = self.tags.values().filter(|values| values.len() == 1).filter_map(|values| values[0].as_ref());
        let untagged = self.untagged.iter().filter(|(_, there)| there.as_slice() == [true]).map(|(digest, _)| digest);
        let blobs = tagged.chain(untagged).filter_map(|digest| self.manifests.get(digest));
        blobs.flat_map(|(_, blobs)| blobs.iter().cloned()).collect()
    }

    /// Compares the repository with what it must be; what was in doubt is certain afterwards.
    fn verify(&mut self, registry: &Registry, all: bool) {
        if all {
            self.seen.clear();
        }
        let repository = self.repository.clone();
        let tags = std::mem::take(&mut self.tags);
        let mut shown = BTreeSet::new();
        for (tag, values) in tags {
            let answer = registry.manifest(&repository, &tag);
            let found = (answer.status != 404).then(|| answer.expect(200).body);
            let value = found.as_ref().map(sha256);
            assert!(values.contains(&value), "{repository}:{tag} is {value:?}, and must be one of {values:?}");
            if let Some(digest) = value {
                assert_eq!(found.as_ref(), self.manifests.get(&digest).map(|(bytes, _)| bytes), "{repository}:{tag}");
                shown.insert(tag.clone());
                self.tags.insert(tag, vec![Some(digest)]);
            }
        }
        let listed = registry.get(&format!("/v2/{repository}/tags/list"));
        let listed =
            if listed.status == 404 { BTreeSet::new() } else { registry.tags(&repository).into_iter().collect() };
        assert_eq!(listed, shown, "the tags of {repository}");
        for (digest, values) in std::mem::take(&mut self.untagged) {
            let answer = registry.manifest(&repository, &digest);
            assert!(values.contains(&(answer.status == 200)), "{repository}@{digest}, one of {values:?}: {answer}");
            if answer.status == 200 {
                assert_eq!(sha256(&answer.body), digest);
                self.untagged.insert(digest, vec![true]);
            }
        }
        self.verify_blobs(registry);
    }

    fn verify_blobs(&mut self, registry: &Registry) {
        let path = |digest: &str| format!("/v2/{}/blobs/{digest}", self.repository);
        for (digest, length) in std::mem::take(&mut self.doubtful) {
            if registry.head(&path(&digest)).status != 404 {
                registry.check_blob(&self.repository, &digest, length);
                self.blobs.insert(digest, length);
            } else {
                self.blobs.remove(&digest);
            }
        }
        let needed = self.needed();
        if !self.workload.keeps_all() {
            self.blobs.retain(|digest, _| needed.contains(digest));
        }
        for digest in needed {
            assert!(self.blobs.contains_key(&digest), "{}: blob {digest} of a manifest is not there", self.repository);
        }
        for (digest, length) in &self.blobs {
            if self.seen.insert(digest.clone()) {
                registry.check_blob(&self.repository, digest, *length);
            } else {
                assert_eq!(registry.head(&path(digest)).expect(200).header("Content-Length"), length.to_string());
            }
        }
    }
}
