//! A file of credentials as text: what is read out of it, and how one entry is changed while everything else
//! stays as it was written.
//!
//! Docker's file belongs to other programs too. What we do not know is kept as the very text it was, in its
//! order, numbers of any size included: each value stays a `RawValue`. (That is also why serde_json's
//! `preserve_order` is not used: it would keep the order only, and change the maps of every crate here.)

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Credential, CredentialError};

/// What is read of `config.json` or `auth.json`.
#[derive(Default, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credsStore")]
    pub(super) store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    pub(super) helpers: Option<BTreeMap<String, String>>,
}

/// What is read of an entry under `auths`.
#[derive(Default, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

/// Reads the text of a file; an empty one is an empty document, as docker takes it.
pub(super) fn read(text: &[u8], path: &Path) -> Result<Document, CredentialError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Document::default());
    }
    serde_json::from_slice(text).map_err(|error| syntax(&error, path))
}

/// serde_json's messages may quote a wrong value, which may be a secret: only the kind and the line are told.
fn syntax(error: &serde_json::Error, path: &Path) -> CredentialError {
    let reason = match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early",
        serde_json::error::Category::Data => "a value has another type than docker gives it",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    CredentialError::Syntax { path: path.to_owned(), line: error.line(), reason: reason.to_owned() }
}

impl Entry {
    /// The credential in the entry; an empty entry, which docker leaves where a helper has the secret, is none.
    pub(super) fn credential(&self, key: &str, path: &Path) -> Result<Option<Credential>, CredentialError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        let (username, password) = match given(&self.auth) {
            Some(auth) => {
                let bad = || CredentialError::Entry { path: path.to_owned(), key: key.to_owned() };
                let (username, password) = decode(&auth).ok_or_else(bad)?;
                (Some(username).filter(|name| !name.is_empty()), password)
            }
            None => (given(&self.username), self.password.clone().unwrap_or_default()),
        };
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken { username, token }));
        }
        Ok(username.map(|username| Credential::Password { username, password }))
    }
}

/// `auth` is base64 of `user:password`; some writers leave the padding away, old ones add zero bytes.
fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_matches('\0').to_owned()))
}

/// The fields of an entry that tell a secret: they are replaced together, other fields of it are kept.
const SECRET_FIELDS: [&str; 6] = ["auth", "username", "password", "email", "identitytoken", "registrytoken"];

/// The text with the credential set under the key (or an empty entry: a helper has it), else untouched.
pub(super) fn with_entry(
    text: &[u8],
    path: &Path,
    key: &str,
    credential: Option<&Credential>,
) -> Result<Vec<u8>, CredentialError> {
    edit(text, path, |auths| {
        let mut entry = match auths.take(key) {
            Some(Node::Object(entry)) => entry,
            _ => Object::default(),
        };
        entry.0.retain(|(name, _)| !SECRET_FIELDS.contains(&name.as_str()));
        let encoded = |username: &str, password: &str| Node::Text(STANDARD.encode(format!("{username}:{password}")));
        match credential {
            None => {}
            Some(Credential::Password { username, password }) => entry.set("auth", encoded(username, password)),
            Some(Credential::IdentityToken { username, token }) => {
                if let Some(username) = username {
                    entry.set("auth", encoded(username, ""));
                }
                entry.set("identitytoken", Node::Text(token.clone()));
            }
            Some(Credential::RegistryToken(token)) => entry.set("registrytoken", Node::Text(token.clone())),
        }
        auths.set(key, Node::Object(entry));
        true
    })
    .map(|text| text.unwrap_or_default())
}

/// The text without the keys that `remove` picks; `None` if it picks none.
pub(super) fn without_entries(
    text: &[u8],
    path: &Path,
    remove: impl Fn(&str) -> bool,
) -> Result<Option<Vec<u8>>, CredentialError> {
    edit(text, path, |auths| {
        let before = auths.0.len();
        auths.0.retain(|(key, _)| !remove(key));
        auths.0.len() != before
    })
}

/// Changes `auths` and writes the file anew, indented as docker does; `None` if `change` changed nothing.
fn edit(
    text: &[u8],
    path: &Path,
    change: impl FnOnce(&mut Object) -> bool,
) -> Result<Option<Vec<u8>>, CredentialError> {
    read(text, path)?; // the shape is checked with the lines of the whole file
    let mut root = match text.iter().all(u8::is_ascii_whitespace) {
        true => Object::default(),
        false => parse(text, path)?,
    };
    let mut auths = match root.get("auths") {
        Some(Node::Kept(raw)) if raw.get() != "null" => parse(raw.get().as_bytes(), path)?,
        _ => Object::default(),
    };
    for (_, node) in &mut auths.0 {
        if let Node::Kept(raw) = node {
            *node = Node::Object(parse(raw.get().as_bytes(), path)?);
        }
    }
    if !change(&mut auths) {
        return Ok(None);
    }
    root.set("auths", Node::Object(auths));
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    root.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        .map_err(|error| syntax(&error, path))?;
    Ok(Some(out))
}

fn parse(text: &[u8], path: &Path) -> Result<Object, CredentialError> {
    serde_json::from_slice(text).map_err(|error| syntax(&error, path))
}

/// A JSON object whose members keep their order and, unless replaced, their text.
#[derive(Default)]
struct Object(Vec<(String, Node)>);

enum Node {
    Kept(Box<RawValue>),
    Text(String),
    Object(Object),
}

impl Object {
    fn get(&self, name: &str) -> Option<&Node> {
        // Of a name that is written twice the last one counts, for docker too.
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, node)| node)
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.0.iter().rposition(|(member, _)| member == name)?;
        let placeholder = Node::Object(Object::default());
        Some(std::mem::replace(&mut self.0[at].1, placeholder))
    }

    fn set(&mut self, name: &str, node: Node) {
        match self.0.iter().rposition(|(member, _)| member == name) {
            Some(at) => self.0[at].1 = node,
            None => self.0.push((name.to_owned(), node)),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Object, E> {
                Ok(Object::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((name, Node::Kept(value)));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_any(Members)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Kept(raw) => raw.serialize(serializer),
            Node::Text(text) => text.serialize(serializer),
            Node::Object(object) => object.serialize(serializer),
        }
    }
}
