//! Keyring files: the keys by which levels below memory encrypt what they keep.
//!
//! ```yaml
//! index_secret: 64 hex digits, or base64 of 32 bytes      # names values; never changes
//! keys:                                                   # in the order in which they were made
//!   - {id: "2026-01", secret: ...}                        # reads what it wrote
//!   - {id: "2026-02", secret: ...}                        # the last one writes
//! ```
//!
//! The name of a value is a digest keyed by `index_secret`, which has no part in encryption. So a new key leaves the
//! names as they are, and what the old one wrote is still found.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::decode::{self, MAX_FAULTS};
use super::model::Name;
use super::problem::{Problem, Problems};
use super::scalar::{Refusal, Scalar, Text};
use super::secret::Secret;
use super::source::{self, Source};
use super::tree::{At, Node, NodeId};
use super::values::NameText;

/// Most keys of one ring.
const MAX_KEYS: usize = 64;

/// A word that is shorter is no part of a secret that matters, and may be shown.
const SHOWN: usize = 16;

/// A key: never shown, and wiped when it is dropped.
pub type KeySecret = Secret<Zeroizing<[u8; 32]>>;

/// The keys of a level that encrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    /// Where it was read.
    pub file: PathBuf,
    /// Makes the names of values.
    pub index: KeySecret,
    /// In the order in which they were made; at least one.
    pub keys: Vec<RingKey>,
}

/// One key of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingKey {
    /// Written into every value that the key encrypts.
    pub id: Name,
    /// The key.
    pub secret: KeySecret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    index_secret: Option<Text<SecretText>>,
    keys: Option<Vec<Key>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: Option<Text<NameText>>,
    secret: Option<Text<SecretText>>,
}

/// 32 bytes in hexadecimal or base64.
struct SecretText(Zeroizing<[u8; 32]>);

impl Scalar for SecretText {
    const NAME: &'static str = "secret";
    const EXAMPLE: &'static str = "the output of `openssl rand -hex 32`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let hint = "write the output of `openssl rand -hex 32` or `openssl rand -base64 32`, in quotes";
        let mut secret = Zeroizing::new([0; 32]);
        // The text is not shown: it may be a secret with a mistake in it.
        let read = match text.len() {
            64 => hex::decode_to_slice(text, &mut *secret).is_ok(),
            _ => STANDARD.decode_slice(text, &mut *secret) == Ok(secret.len()),
        };
        if !read {
            return Err(Refusal::new("not 32 bytes in hexadecimal or base64").hint(hint));
        }
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(Refusal::new("32 equal bytes are not a secret").hint(hint));
        }
        Ok(Self(secret))
    }
}

impl Keyring {
    /// Reads the text of the keyring at `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it, with positions in `file`. Nothing of a secret is in them.
    pub fn parse(file: &Path, text: &[u8]) -> Result<Self, Problems> {
        let name = file.display().to_string();
        let of_file = |message: &str| Problems(vec![Problem::of_file(&name, message.to_owned())]);
        let text = std::str::from_utf8(text).map_err(|_| of_file("the file is not UTF-8 text"))?;
        let Source { mut root, duplicates } = source::parse(text).map_err(|error| {
            // What the parser says may quote the text.
            let mut problem = Problem::of_file(&name, "the file is not YAML".to_owned());
            (problem.line, problem.column) = (error.position.line, error.position.column);
            Problems(vec![problem])
        })?;
        let mut found = Vec::new();
        for duplicate in duplicates {
            let place = root.find_id(duplicate.first, String::new());
            found.push(Found {
                at: duplicate.id,
                path: place.map(|place| place.path).unwrap_or_default(),
                message: "the key is given twice".to_owned(),
                hint: None,
            });
        }
        let mut faults = Vec::new();
        let raw = decode::decode::<File>(&mut root, &mut faults);
        for fault in faults {
            let place = fault.at.and_then(|id| root.find_id(id, String::new()));
            found.extend(place.map(|place| Found {
                at: place.position,
                path: place.path,
                message: fault.message,
                hint: fault.hint,
            }));
        }
        let ring = raw.and_then(|raw| resolve(file, raw, &root, &mut found));
        match ring {
            Some(ring) if found.is_empty() => Ok(ring),
            _ if found.is_empty() => Err(of_file("the file is empty")),
            _ => Err(problems(&name, text, found)),
        }
    }
}

/// A problem, still to be located in the text.
struct Found {
    at: NodeId,
    path: String,
    message: String,
    hint: Option<String>,
}

fn resolve(file: &Path, raw: File, root: &Node, found: &mut Vec<Found>) -> Option<Keyring> {
    let mut problem = |at: &At<'_>, message: String| {
        let place = root.find(at);
        found.push(Found {
            at: place.position,
            path: place.path,
            message,
            hint: None,
        });
    };
    let top = At::ROOT;
    let list = top.key("keys");
    if raw.index_secret.is_none() && !root.is_faulty("index_secret") {
        problem(&top.key("index_secret"), "`index_secret` is missing".to_owned());
    }
    let raw_keys = raw.keys.unwrap_or_default();
    if raw_keys.is_empty() && !root.is_faulty("keys") {
        problem(&list, "a ring has at least one key".to_owned());
    }
    if raw_keys.len() > MAX_KEYS {
        problem(&list, format!("a ring has at most {MAX_KEYS} keys"));
    }
    let mut ids = HashMap::new();
    let mut keys: Vec<RingKey> = Vec::new();
    for (index, key) in raw_keys.into_iter().enumerate() {
        let at = list.index(index);
        let node = root.find(&at).node;
        for (missing, field) in [(key.id.is_none(), "id"), (key.secret.is_none(), "secret")] {
            if missing && !node.is_some_and(|node| node.is_faulty(field)) {
                problem(&at.key(field), format!("`{field}` is missing"));
            }
        }
        let path = root.find(&at).path;
        if let Some(id) = &key.id
            && let Some(first) = ids.insert(id.0.0.clone(), path)
        {
            problem(&at.key("id"), format!("the id is already used by {first}"));
        }
        if let Some(Text(SecretText(secret))) = &key.secret {
            let is_index = raw
                .index_secret
                .as_ref()
                .is_some_and(|index| index.0.0 == *secret);
            if is_index || keys.iter().any(|other| other.secret.reveal() == secret) {
                problem(&at.key("secret"), "the secret is used twice".to_owned());
            }
        }
        if let (Some(id), Some(secret)) = (key.id, key.secret) {
            keys.push(RingKey {
                id: id.0.0,
                secret: Secret::new(secret.0.0),
            });
        }
    }
    Some(Keyring {
        file: file.to_owned(),
        index: Secret::new(raw.index_secret?.0.0),
        keys,
    })
}

/// Hides whatever is as long as a part of a secret that matters.
fn conceal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)))
            .unwrap_or(rest.len());
        shown.push_str(if word < SHOWN { &rest[..word] } else { "[hidden]" });
        rest = &rest[word..];
        let between = rest.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&rest[..between]);
        rest = &rest[between..];
    }
    shown
}

/// Locates what was found and puts it into the order of the file. No lines are shown: secrets are in them.
fn problems(name: &str, text: &str, mut found: Vec<Found>) -> Problems {
    found.sort_by_key(|found| found.at);
    found.truncate(MAX_FAULTS);
    let located = found.into_iter().map(|found| {
        let position = source::locate(text, found.at);
        let hint = found.hint.as_deref().map(conceal);
        let mut problem = Problem::of_file(name, conceal(&found.message)).hint(hint);
        (problem.line, problem.column) = (position.line, position.column);
        problem.path = conceal(&found.path);
        problem
    });
    Problems(located.collect())
}
