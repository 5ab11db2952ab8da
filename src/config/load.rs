//! From a file, a text or a URL to a [`Config`], or to everything that is wrong.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::uri::Scheme;
use serde_json::json;

use super::decode::{self, MAX_FAULTS};
use super::environment::Environment;
use super::fault::Fault;
use super::files::Files;
use super::interpolate::{escape, interpolate};
use super::model::Config;
use super::problem::{Problem, Problems};
use super::resolve::{self, Cx, Finding};
use super::scalar::{Refusal, Scalar};
use super::source::{self, Position, Source};
use super::tree::Node;
use super::values::UrlText;

/// A configuration and the files that it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every file whose content matters: the YAML itself first, then what it refers to. Absolute paths.
    pub files: Vec<PathBuf>,
    /// Digest of the content of all files at the time they were read; see [`super::content_digest`].
    pub digest: [u8; 32],
}

/// Reads a file.
pub fn load(path: &Path, env: &Environment) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let of_file = |message: String| Problems(vec![Problem::of_file(&name, message)]);
    let cannot_read = |error: std::io::Error| of_file(format!("cannot read the file: {error}"));
    let path = std::path::absolute(path).map_err(cannot_read)?;
    let mut files = Files::default();
    let content = files.read(&path).map_err(cannot_read)?;
    let text = String::from_utf8(content).map_err(|error| {
        let valid = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        of_file(format!("the file is not UTF-8 text (line {line})"))
    })?;
    let base_dir = path.parent().unwrap_or(Path::new("/"));
    read(&name, &text, base_dir, env, files)
}

/// Reads a text. `name` stands for the file in problems; relative paths begin at `base_dir`.
pub fn parse(name: &str, text: &str, base_dir: &Path, env: &Environment) -> Result<Loaded, Problems> {
    let base_dir = std::path::absolute(base_dir)
        .map_err(|error| Problems(vec![Problem::of_file(name, format!("no directory: {error}"))]))?;
    read(name, text, &base_dir, env, Files::default())
}

/// A configuration without a file: one upstream, one route `default` for everything, GET and HEAD cached as the
/// origin's headers say, one memory level.
pub fn quick(
    upstream_url: &str,
    listen: SocketAddr,
    admin: SocketAddr,
    env: &Environment,
) -> Result<Loaded, Problems> {
    let upstream = quick_upstream(upstream_url).map_err(|refusal| {
        let start = Position { line: 1, column: 1 };
        let problem = Problem::at("--upstream", upstream_url, start, String::new(), refusal.message);
        Problems(vec![problem.hint(refusal.hint)])
    })?;
    // JSON is YAML.
    let text = json!({
        "version": 1,
        "listeners": [{"name": "http", "bind": listen.to_string()}],
        "admin": {"bind": admin.to_string()},
        "upstreams": {"default": upstream},
        "routes": [{"name": "default", "upstream": "default", "cache": {}}],
    });
    parse("--upstream", &format!("{text:#}"), Path::new("."), env)
}

fn quick_upstream(url: &str) -> Result<serde_json::Value, Refusal> {
    let example = "like `http://127.0.0.1:8000`";
    let uri = UrlText::parse(url).map_err(|refusal| refusal.hint(example))?.0;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(Refusal::new("the URL has a path").hint(format!("only scheme, host and port: {example}")));
    }
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let mut upstream = json!({"endpoints": [{"address": escape(&format!("{host}:{port}"))}]});
    if let (true, Some(upstream)) = (tls, upstream.as_object_mut()) {
        upstream.insert("tls".to_owned(), json!({}));
    }
    Ok(upstream)
}

fn read(
    name: &str,
    text: &str,
    base_dir: &Path,
    env: &Environment,
    mut files: Files,
) -> Result<Loaded, Problems> {
    let Source { mut root, duplicates } = source::parse(text).map_err(|error| {
        Problems(vec![Problem::at(
            name,
            text,
            error.position,
            String::new(),
            error.message,
        )])
    })?;
    let mut found = Vec::new();
    for duplicate in duplicates {
        let first = source::locate(text, duplicate.first).line;
        found.push(Finding {
            path: root
                .find_id(duplicate.first, String::new())
                .map(|place| place.path)
                .unwrap_or_default(),
            position: duplicate.id,
            message: format!("the key `{}` is given twice", duplicate.key),
            hint: Some(format!("the first is in line {first}")),
        });
    }
    let mut failures = Vec::new();
    interpolate(&mut root, &*env.vars, &mut failures);
    for failure in failures {
        found.extend(finding(&root, failure.id, failure.message, failure.hint));
        root.prune(failure.id, None);
    }
    let mut faults = Vec::new();
    let raw = decode::decode(&mut root, &mut faults);
    found.extend(faults.into_iter().filter_map(|fault| {
        let Fault {
            at, message, hint, ..
        } = fault;
        finding(&root, at?, message, hint)
    }));
    let mut cx = Cx {
        tree: &root,
        env,
        base_dir,
        files: &mut files,
        found,
        elsewhere: Vec::new(),
    };
    let config = raw.and_then(|raw| resolve::resolve(&mut cx, raw));
    match config {
        Some(config) => Ok(Loaded {
            config,
            files: files.paths(),
            digest: files.digest(),
        }),
        None => Err(problems(name, text, cx.found, cx.elsewhere)),
    }
}

fn finding(root: &Node, id: u32, message: String, hint: Option<String>) -> Option<Finding> {
    let place = root.find_id(id, String::new())?;
    Some(Finding {
        path: place.path,
        position: place.position,
        message,
        hint,
    })
}

/// Locates what was found and puts it into the order of the file; what is wrong `elsewhere` follows.
fn problems(name: &str, text: &str, mut found: Vec<Finding>, elsewhere: Vec<Problem>) -> Problems {
    found.sort_by_key(|finding| finding.position);
    let left_out = found.len().saturating_sub(MAX_FAULTS);
    found.truncate(MAX_FAULTS);
    let mut problems: Vec<Problem> = found
        .into_iter()
        .map(|finding| {
            let position = source::locate(text, finding.position);
            Problem::at(name, text, position, finding.path, finding.message).hint(finding.hint)
        })
        .collect();
    problems.extend(elsewhere);
    if left_out > 0 {
        problems.push(Problem::of_file(
            name,
            format!("{left_out} more problems are not shown"),
        ));
    }
    if problems.is_empty() {
        // Cannot happen: a configuration is refused only for a finding.
        problems.push(Problem::of_file(
            name,
            "the configuration could not be read".to_owned(),
        ));
    }
    Problems(problems)
}
