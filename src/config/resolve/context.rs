//! What resolving needs at hand: the tree for positions, the surroundings, and the problems found so far.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;
use crate::config::files::Files;
use crate::config::problem::Problem;
use crate::config::scalar::{NOT_AVAILABLE, Text};
use crate::config::tree::{At, Node, NodeId};

/// The state of resolving one file.
pub(in crate::config) struct Cx<'a> {
    pub(in crate::config) tree: &'a Node,
    pub(in crate::config) env: &'a Environment,
    /// Absolute directory of the file: relative paths begin there.
    pub(in crate::config) base_dir: &'a Path,
    pub(in crate::config) files: &'a mut Files,
    pub(in crate::config) found: Vec<Finding>,
    /// Problems in files that this one refers to.
    pub(in crate::config) elsewhere: Vec<Problem>,
}

/// A problem, still to be located in the text.
#[derive(Clone, Debug)]
pub(in crate::config) struct Finding {
    pub(in crate::config) path: String,
    pub(in crate::config) position: NodeId,
    pub(in crate::config) message: String,
    pub(in crate::config) hint: Option<String>,
}

impl Finding {
    /// Adds what to write instead.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

impl Cx<'_> {
    /// Reports a problem.
    pub(super) fn problem(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        let place = self.tree.find(at);
        let message = message.into();
        self.found.push(Finding {
            message: match place.node {
                Some(node) => node.conceal(message),
                None => message,
            },
            path: place.path,
            position: place.position,
            hint: None,
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Reports something that a later version brings.
    pub(super) fn later(&mut self, at: &At<'_>) {
        self.problem(at, NOT_AVAILABLE);
    }

    /// Whether a problem was already reported about `key` of the map at `at`.
    pub(super) fn is_faulty(&self, at: &At<'_>, key: &str) -> bool {
        self.tree.find(at).node.is_some_and(|node| node.is_faulty(key))
    }

    /// A value that must be there.
    pub(super) fn required<T>(&mut self, at: &At<'_>, key: &str, value: Option<Text<T>>) -> Option<T> {
        self.required_word(at, key, value).map(|text| text.0)
    }

    /// A value that must be there.
    pub(super) fn required_word<T>(&mut self, at: &At<'_>, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.is_faulty(at, key) {
            self.problem(&at.key(key), format!("`{key}` is missing"));
        }
        value
    }

    /// A list that must be there and not be empty; empty if it is not.
    pub(super) fn required_list<T>(
        &mut self,
        at: &At<'_>,
        key: &str,
        value: Option<Vec<T>>,
        hint: &str,
    ) -> Vec<T> {
        let list_at = at.key(key);
        match value {
            Some(list) if !list.is_empty() => return list,
            Some(_) if self.was_emptied(&list_at) => {}
            Some(_) => self.problem(&list_at, format!("`{key}` is empty")).hint(hint),
            None if self.is_faulty(at, key) => {}
            None => self.problem(&list_at, format!("`{key}` is missing")).hint(hint),
        }
        Vec::new()
    }

    /// Whether the list or map at `at` was left empty by problems that are reported already.
    pub(super) fn was_emptied(&self, at: &At<'_>) -> bool {
        self.tree.find(at).node.is_some_and(Node::has_children)
    }

    /// Reports each of the `names` of the list at `list` that occurred before.
    pub(super) fn unique<'n>(
        &mut self,
        list: &At<'_>,
        key: &str,
        names: impl Iterator<Item = Option<&'n str>>,
    ) {
        let mut seen = HashMap::new();
        for (index, name) in names.enumerate() {
            let Some(name) = name else {
                continue;
            };
            match seen.get(name) {
                Some(&first) => {
                    let first = self.tree.find(&list.index(first)).path;
                    self.problem(
                        &list.index(index).key(key),
                        format!("`{name}` is already used by {first}"),
                    );
                }
                None => {
                    seen.insert(name, index);
                }
            }
        }
    }

    /// How the header field `name` is written as a key of the map at `at`, where case does not matter.
    pub(super) fn written_key(&self, at: &At<'_>, name: &str) -> Option<String> {
        let node = self.tree.find(at).node?;
        node.keys()
            .find(|key| key.eq_ignore_ascii_case(name))
            .map(str::to_owned)
    }

    /// The path of a file: what is relative is relative to the configuration file.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.base_dir.join(path)
    }

    /// Reads a file that the configuration refers to.
    pub(super) fn read(&mut self, at: &At<'_>, path: &Path) -> Option<Vec<u8>> {
        let path = self.absolute(path);
        match self.files.read(&path) {
            Ok(content) => Some(content),
            Err(error) => {
                self.problem(at, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    /// The absolute path of a file that must be readable.
    pub(super) fn readable(&mut self, at: &At<'_>, path: &Path) -> PathBuf {
        if self.read(at, path).is_some_and(|content| content.is_empty()) {
            self.problem(at, format!("the file {} is empty", self.absolute(path).display()));
        }
        self.absolute(path)
    }
}
