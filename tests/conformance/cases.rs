//! The cases as the suite's export has them; its `schema.json` says what each field means.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

/// A group of tests about one subject.
#[derive(Debug, Deserialize)]
pub(super) struct Suite {
    pub(super) id: String,
    pub(super) tests: Vec<Test>,
}

/// One test: requests under one path, one after the other.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Test {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) depends_on: Vec<String>,
    #[serde(default)]
    pub(super) browser_only: bool,
    pub(super) requests: Vec<Step>,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The standard is not met.
    #[default]
    Required,
    /// The cache could do better.
    Optimal,
    /// Nothing: it tells how the cache behaves.
    Check,
}

/// One request, what the origin does with it, and what must hold afterwards.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    pub(super) request_method: Option<String>,
    pub(super) request_headers: Vec<(String, Magic)>,
    pub(super) request_body: Option<String>,
    pub(super) query_arg: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) magic_ims: bool,
    pub(super) magic_locations: bool,
    pub(super) rfc850date: Vec<String>,
    pub(super) pause_after: bool,
    pub(super) disconnect: bool,
    pub(super) response_pause: u64,
    pub(super) interim_responses: Vec<Interim>,
    pub(super) response_status: Option<(u16, String)>,
    pub(super) response_headers: Vec<Field>,
    pub(super) response_body: Option<String>,
    pub(super) setup: bool,
    pub(super) setup_tests: Vec<String>,
    pub(super) check_body: Option<bool>,
    pub(super) expected_type: Option<Source>,
    pub(super) expected_method: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) expected_status: Option<Option<u16>>,
    #[serde(deserialize_with = "given")]
    pub(super) expected_response_text: Option<Option<String>>,
    pub(super) expected_response_headers: Vec<Expected>,
    pub(super) expected_response_headers_missing: Vec<Named>,
    pub(super) expected_request_headers: Vec<Named>,
    pub(super) expected_request_headers_missing: Vec<Named>,
    pub(super) expected_interim_responses: Option<Vec<Interim>>,
}

/// Tells a field that is null from one that is not there.
fn given<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

impl Step {
    /// Whether the check named `check` belongs to the preparation: its failure says nothing about the test's subject.
    pub(super) fn prepares(&self, check: &str) -> bool {
        self.setup || self.setup_tests.iter().any(|named| named == check)
    }
}

/// A header value, or seconds from now for a date.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Magic {
    Text(String),
    Seconds(i64),
}

/// A header field of the origin's response.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Field {
    /// The client must receive it.
    Checked(String, Magic),
    /// The client must receive it if so marked.
    Marked(String, Magic, bool),
}

/// What must hold for a header field of the response.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Expected {
    Present(String),
    Is(String, Magic),
    /// Name, `=` and another name, or `>` and a number.
    Compares(String, String, Operand),
}

/// The right side of a comparison.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Operand {
    Name(String),
    Number(i64),
}

/// A field by its name, or by name and value.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Named {
    Name(String),
    Value(String, String),
}

/// An interim response: status, and header fields if it has any.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Interim {
    Status((u16,)),
    Fields(u16, Vec<(String, String)>),
}

impl Interim {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Status((status,)) | Self::Fields(status, _) => *status,
        }
    }

    pub(super) fn fields(&self) -> &[(String, String)] {
        match self {
            Self::Status(_) => &[],
            Self::Fields(_, fields) => fields,
        }
    }
}

/// Where the response must come from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The cache alone.
    Cached,
    /// The origin.
    NotCached,
    /// The cache, after the origin confirmed it by `ETag`.
    EtagValidated,
    /// The same by `Last-Modified`.
    LmValidated,
}

impl Source {
    /// The request field by which the origin must be asked.
    pub(super) fn condition(self) -> Option<&'static str> {
        match self {
            Self::Cached | Self::NotCached => None,
            Self::EtagValidated => Some("if-none-match"),
            Self::LmValidated => Some("if-modified-since"),
        }
    }
}

/// Reads the cases; an error says which file cannot be read.
pub(super) fn load() -> Result<Vec<Suite>, String> {
    let path = std::env::var_os("CACHE_TESTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/cache-tests/cases.json"),
        PathBuf::from,
    );
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}
