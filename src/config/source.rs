//! YAML text to tree; the only file that names the YAML crate.
//!
//! The crate tells positions only with errors. So every key and value is numbered while the tree is built, and
//! [`locate`] builds it again up to a number and fails there on purpose. That is done for problems only.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::tree::{Entry, Node, NodeId, TextValue, Value};

/// Bytes of one file; a Kubernetes ConfigMap cannot hold more either.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Keys and values of one file after its aliases are followed, so that nested aliases cannot exhaust memory.
const MAX_VALUES: NodeId = 100_000;

/// Brackets open on one line. The parser refuses deeper nesting as well, but only after scanning, which takes
/// quadratic time: half a minute for a megabyte of them.
const MAX_OPEN_BRACKETS: usize = 128;

/// A position in the text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Text that is not YAML, or more than is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) message: String,
}

/// A parsed text.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) root: Node,
    /// Keys that occur again in the same map; only the first is in the tree.
    pub(super) duplicates: Vec<Duplicate>,
}

/// A key that occurs again in the same map.
#[derive(Debug)]
pub(super) struct Duplicate {
    pub(super) key: String,
    /// The second occurrence.
    pub(super) id: NodeId,
    /// The first occurrence.
    pub(super) first: NodeId,
}

/// Parses `text`.
pub(super) fn parse(text: &str) -> Result<Source, SyntaxError> {
    check_bounds(text)?;
    let builder = Builder::new(None);
    let root = builder.build(text).map_err(|error| syntax_error(text, error))?;
    Ok(Source {
        root,
        duplicates: builder.duplicates.into_inner(),
    })
}

/// `value` as YAML.
///
/// # Errors
/// What cannot be written as YAML; no JSON value is.
pub fn to_yaml(value: &serde_json::Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

/// Finds where the key or value number `id` of `text` begins.
pub(super) fn locate(text: &str, id: NodeId) -> Position {
    let error = Builder::new(Some(id)).build(text).err();
    error.map_or(START, |error| syntax_error(text, error).position)
}

const START: Position = Position { line: 1, column: 1 };

fn syntax_error(text: &str, error: serde_yaml::Error) -> SyntaxError {
    let location = error.location();
    let mut position = location.as_ref().map_or(START, |location| Position {
        line: location.line(),
        column: location.column(),
    });
    // The crate appends the position and, for our own errors, prepends a path; both are shown elsewhere.
    let mut message = error.to_string();
    if let Some(begin) = message.find(OWN_ERROR) {
        message.drain(..begin + OWN_ERROR.len());
    }
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    if message.contains("more than one document") {
        "a second document (`---`) is not read".clone_into(&mut message);
        // The crate does not say where.
        let separators = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.starts_with("---"));
        position.line = separators.last().map_or(1, |(index, _)| index + 1);
    }
    SyntaxError { position, message }
}

/// Marks errors made here, to tell them from the path that the YAML crate puts before them.
const OWN_ERROR: &str = "\u{1f}";

fn own<E: Error>(message: impl fmt::Display) -> E {
    E::custom(format_args!("{OWN_ERROR}{message}"))
}

fn check_bounds(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_BYTES {
        return Err(SyntaxError {
            position: START,
            message: format!("the file is larger than {} KiB", MAX_BYTES / 1024),
        });
    }
    // Brackets inside texts count as well; so many of them, never closed, do not occur by accident.
    for (number, line) in text.lines().enumerate() {
        let mut open = 0_usize;
        for (column, character) in line.chars().enumerate() {
            match character {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > MAX_OPEN_BRACKETS {
                return Err(SyntaxError {
                    position: Position {
                        line: number + 1,
                        column: column + 1,
                    },
                    message: format!("more than {MAX_OPEN_BRACKETS} brackets are open"),
                });
            }
        }
    }
    Ok(())
}

/// Builds the tree, numbering keys and values; fails at the number `stop_at`.
struct Builder {
    next: Cell<NodeId>,
    stop_at: Option<NodeId>,
    duplicates: RefCell<Vec<Duplicate>>,
}

impl Builder {
    fn new(stop_at: Option<NodeId>) -> Self {
        Self {
            next: Cell::new(0),
            stop_at,
            duplicates: RefCell::default(),
        }
    }

    fn build(&self, text: &str) -> Result<Node, serde_yaml::Error> {
        self.deserialize(serde_yaml::Deserializer::from_str(text))
    }

    fn number<E: Error>(&self) -> Result<NodeId, E> {
        let id = self.next.get();
        if self.stop_at == Some(id) {
            return Err(own("located"));
        }
        if id >= MAX_VALUES {
            return Err(own(format_args!(
                "the file has more than {MAX_VALUES} keys and values, aliases followed"
            )));
        }
        self.next.set(id + 1);
        Ok(id)
    }

    fn leaf<E: Error>(&self, value: Value) -> Result<Node, E> {
        Ok(Node::new(self.number()?, value))
    }
}

impl<'de> DeserializeSeed<'de> for &Builder {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Builder {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.leaf(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.leaf(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.leaf(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.leaf(Value::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.leaf(Value::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.leaf(Value::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.leaf(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.leaf(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.leaf(Value::Text(TextValue {
            text: value.to_owned(),
            written: None,
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut nodes = Vec::new();
        while let Some(node) = values.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Node::new(id, Value::List(nodes)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        while let Some((key_id, key)) = map.next_key_seed(Key(self))? {
            let node = map.next_value_seed(self)?;
            if let Some(&first) = seen.get(&key) {
                let duplicate = Duplicate {
                    key,
                    id: key_id,
                    first,
                };
                self.duplicates.borrow_mut().push(duplicate);
                continue;
            }
            seen.insert(key.clone(), key_id);
            entries.push(Entry {
                key,
                key_id,
                node,
                meant: None,
            });
        }
        Ok(Node::new(id, Value::Map(entries)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _tag: A) -> Result<Node, A::Error> {
        Err(own("YAML tags (`!name`) are not read"))
    }
}

/// Reads a key as text.
struct Key<'b>(&'b Builder);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (NodeId, String);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = (NodeId, String);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0.number()?, key.to_owned()))
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<Self::Value, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<Self::Value, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<Self::Value, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_f64<E: Error>(self, _key: f64) -> Result<Self::Value, E> {
        Err(own(
            "a key that looks like a number with a point must be put in quotes",
        ))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Err(own("a key is empty"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _values: A) -> Result<Self::Value, A::Error> {
        Err(own("a list cannot be a key"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<Self::Value, A::Error> {
        Err(own("a map cannot be a key; a text with `{` needs quotes here"))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _tag: A) -> Result<Self::Value, A::Error> {
        Err(own("YAML tags (`!name`) are not read"))
    }
}
