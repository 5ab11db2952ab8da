//! What is wrong with one value, as serde's error type.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::suggest;
use super::tree::{Node, NodeId};

/// One fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault {
    /// Where to point; unknown until the error passes the value it is about.
    pub(super) at: Option<NodeId>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The value to leave out, if it is not the one at `at`.
    pub(super) leave_out: Option<NodeId>,
    /// The known key that an unknown one was probably meant to be.
    pub(super) meant: Option<String>,
    /// Follows from a fault that was reported before.
    pub(super) silent: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(mut self, id: NodeId) -> Self {
        self.at.get_or_insert(id);
        self
    }

    /// Points at `node` unless the fault lies deeper.
    pub(super) fn at_value(mut self, node: &Node) -> Self {
        if self.at.is_none() {
            self.at = Some(node.id);
            self.message = node.conceal(self.message);
            self.hint = self.hint.and_then(|hint| node.conceal_hint(hint));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    /// The first line is the message, the rest the hint.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => Self::new(message).hint(hint),
            None => Self::new(text),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = describe_expected(expected);
        let fault = Self::new(format!("expected {expected}, found {}", describe_found(found)));
        match found {
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
                if expected == "text" =>
            {
                fault.hint("put it in quotes")
            }
            _ => fault,
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let meant = suggest::closest(field, expected.iter().copied());
        Self {
            hint: suggest::hint(field, expected.iter().copied()),
            meant: meant.map(str::to_owned),
            ..Self::new(format!("unknown key `{field}`"))
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            hint: suggest::hint(variant, expected.iter().copied()),
            ..Self::new(format!("unknown value `{variant}`"))
        }
    }
}

fn describe_expected(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "a string" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a map".to_owned(),
        _ => expected,
    }
}

fn describe_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number `{value}`"),
        Unexpected::Signed(value) => format!("the number `{value}`"),
        Unexpected::Float(value) => format!("the number `{value}`"),
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}
