//! The YAML as a tree of values, each with a number from which its position in the text can be found.

use std::fmt::Write;

/// Number of a key or value, counted in document order.
pub(super) type NodeId = u32;

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) value: Value,
    /// A problem was reported here; the value is left out from now on.
    pub(super) faulty: bool,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(TextValue),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, after the environment was put in.
#[derive(Clone, Debug)]
pub(super) struct TextValue {
    pub(super) text: String,
    /// What it was, if the environment was put in.
    pub(super) written: Option<Written>,
}

/// A text before the environment was put in.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The text.
    pub(super) text: String,
    /// The values of its variables; they may be secrets.
    pub(super) values: Vec<String>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_id: NodeId,
    pub(super) node: Node,
    /// The known key that an unknown one was probably meant to be.
    pub(super) meant: Option<String>,
}

/// A path from the root, kept on the stack of whoever walks.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Key(&'a str),
    /// Counts only values that are not faulty, like the decoded lists do.
    Index(usize),
}

/// The place a path leads to.
#[derive(Clone, Debug)]
pub(super) struct Place<'t> {
    /// The whole path as users write it: `routes[0].cache.ttl`.
    pub(super) path: String,
    /// The key or value to point at: the nearest that exists.
    pub(super) position: NodeId,
    /// The value, if it exists.
    pub(super) node: Option<&'t Node>,
}

impl At<'_> {
    /// The root.
    pub(super) const ROOT: At<'static> = At {
        parent: None,
        step: Step::Root,
    };

    /// The value of `key` in this map.
    pub(super) fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// The `index`th value, faulty ones not counted, of this list.
    pub(super) fn index(&self, index: usize) -> At<'_> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl Node {
    /// A sound value.
    pub(super) fn new(id: NodeId, value: Value) -> Self {
        Self {
            id,
            value,
            faulty: false,
        }
    }

    /// The entry of a map.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Keys of a map, those of faulty values included.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries: &[Entry] = match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(|entry| entry.key.as_str())
    }

    /// Whether this is a list or map that is not empty, if only of faulty values.
    pub(super) fn has_children(&self) -> bool {
        match &self.value {
            Value::List(nodes) => !nodes.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            _ => false,
        }
    }

    /// Whether a problem was reported here or below.
    pub(super) fn has_faults(&self) -> bool {
        self.faulty
            || match &self.value {
                Value::List(nodes) => nodes.iter().any(Self::has_faults),
                Value::Map(entries) => entries.iter().any(|entry| entry.node.has_faults()),
                _ => false,
            }
    }

    /// Whether a problem was reported about `key` of this map, or about a key that was probably meant to be it.
    pub(super) fn is_faulty(&self, key: &str) -> bool {
        let Value::Map(entries) = &self.value else {
            return false;
        };
        entries
            .iter()
            .any(|entry| entry.node.faulty && (entry.key == key || entry.meant.as_deref() == Some(key)))
    }

    /// Marks the key or value with number `id` as faulty. Returns whether there is one below this node.
    pub(super) fn prune(&mut self, id: NodeId, meant: Option<&str>) -> bool {
        match &mut self.value {
            Value::List(nodes) => nodes.iter_mut().any(|node| {
                node.faulty |= node.id == id;
                node.id == id || node.prune(id, meant)
            }),
            Value::Map(entries) => entries.iter_mut().any(|entry| {
                let here = entry.key_id == id || entry.node.id == id;
                if here {
                    entry.node.faulty = true;
                    entry.meant = meant.map(str::to_owned);
                }
                here || entry.node.prune(id, meant)
            }),
            _ => false,
        }
    }

    /// Finds what `at` leads to, beginning at this root.
    pub(super) fn find(&self, at: &At<'_>) -> Place<'_> {
        let Some(parent) = at.parent else {
            return self.place(String::new());
        };
        let mut place = self.find(parent);
        match at.step {
            Step::Root => {}
            Step::Key(key) => {
                push_key(&mut place.path, key);
                let entry = place.node.and_then(|node| node.entry(key));
                if let Some(entry) = entry {
                    place.position = entry.position();
                }
                place.node = entry.map(|entry| &entry.node);
            }
            Step::Index(index) => {
                let found = place.node.and_then(|node| node.nth_sound(index));
                push_index(&mut place.path, found.map_or(index, |(written, _)| written));
                if let Some((_, node)) = found {
                    place.position = node.id;
                }
                place.node = found.map(|(_, node)| node);
            }
        }
        place
    }

    /// Finds the key or value with number `id` in or below this node, whose own path is `path`.
    pub(super) fn find_id(&self, id: NodeId, path: String) -> Option<Place<'_>> {
        if self.id == id {
            return Some(self.place(path));
        }
        match &self.value {
            Value::List(nodes) => nodes.iter().enumerate().find_map(|(index, node)| {
                let mut path = path.clone();
                push_index(&mut path, index);
                node.find_id(id, path)
            }),
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let mut path = path.clone();
                push_key(&mut path, &entry.key);
                let mut place = if entry.key_id == id {
                    let mut place = entry.node.place(path);
                    place.position = entry.key_id;
                    place
                } else {
                    entry.node.find_id(id, path)?
                };
                if place.position == entry.node.id {
                    place.position = entry.position();
                }
                Some(place)
            }),
            _ => None,
        }
    }

    /// A message about this value in which nothing comes from the environment.
    pub(super) fn conceal(&self, message: String) -> String {
        let Some((text, written)) = self.interpolated() else {
            return message;
        };
        let message = match text {
            "" => message,
            text => message.replace(text, &written.text),
        };
        match written.shows_in(&message) {
            true => format!("`{}` has a value that is not valid here", written.text),
            false => message,
        }
    }

    /// A hint about this value, if nothing in it comes from the environment.
    pub(super) fn conceal_hint(&self, hint: String) -> Option<String> {
        match self.interpolated() {
            Some((_, written)) if written.shows_in(&hint) => None,
            _ => Some(hint),
        }
    }

    fn interpolated(&self) -> Option<(&str, &Written)> {
        match &self.value {
            Value::Text(value) => Some((&value.text, value.written.as_ref()?)),
            _ => None,
        }
    }

    fn place(&self, path: String) -> Place<'_> {
        Place {
            path,
            position: self.id,
            node: Some(self),
        }
    }

    fn nth_sound(&self, index: usize) -> Option<(usize, &Node)> {
        match &self.value {
            Value::List(nodes) => nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| !node.faulty)
                .nth(index),
            _ => None,
        }
    }
}

impl Written {
    /// Whether a variable's value shows in `message`, perhaps in another case. Very short ones are no secrets, and
    /// show in any text.
    fn shows_in(&self, message: &str) -> bool {
        let message = message.to_lowercase();
        self.values
            .iter()
            .any(|value| value.len() >= 3 && message.contains(&value.to_lowercase()))
    }
}

impl Entry {
    /// Where to point when the value is meant: at a list's or map's key, because such a value begins on another
    /// line; at any other value itself.
    fn position(&self) -> NodeId {
        match self.node.value {
            Value::List(_) | Value::Map(_) => self.key_id,
            _ => self.node.id,
        }
    }
}

fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || !key.chars().all(plain) {
        path.push_str(&format!("[{key:?}]"));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn push_index(path: &mut String, index: usize) {
    // Writing into a String cannot fail.
    let _infallible = write!(path, "[{index}]");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: NodeId, text: &str) -> Node {
        let text = TextValue {
            text: text.to_owned(),
            written: None,
        };
        Node::new(id, Value::Text(text))
    }

    /// `routes: [a, b, {name: c}]`
    fn sample() -> Node {
        let name = Entry {
            key: "name".to_owned(),
            key_id: 6,
            node: text(7, "c"),
            meant: None,
        };
        let list = vec![text(3, "a"), text(4, "b"), Node::new(5, Value::Map(vec![name]))];
        let routes = Entry {
            key: "routes".to_owned(),
            key_id: 1,
            node: Node::new(2, Value::List(list)),
            meant: None,
        };
        Node::new(0, Value::Map(vec![routes]))
    }

    #[test]
    fn paths_show_the_index_of_the_file_even_after_pruning() {
        let mut root = sample();
        assert!(root.prune(3, None));
        let (routes, first) = (At::ROOT.key("routes"), 0);
        assert_eq!(root.find(&routes.index(first)).path, "routes[1]");
        let third = routes.index(1);
        let place = root.find(&third.key("name"));
        assert_eq!((place.path.as_str(), place.position), ("routes[2].name", 7));
    }

    #[test]
    fn what_is_missing_points_at_its_parent() {
        let root = sample();
        let routes = At::ROOT.key("routes");
        let third = routes.index(2);
        let place = root.find(&third.key("upstream"));
        assert_eq!((place.path.as_str(), place.position), ("routes[2].upstream", 5));
        assert!(place.node.is_none());
        // A list points at its key.
        assert_eq!(root.find(&routes).position, 1);
    }

    #[test]
    fn a_misspelt_key_stands_for_the_one_that_was_meant() {
        let mut root = sample();
        assert!(root.prune(6, Some("upstream")));
        let routes = At::ROOT.key("routes");
        let route = root.find(&routes.index(2)).node.unwrap();
        assert!(route.is_faulty("upstream") && route.is_faulty("name") && !route.is_faulty("cache"));
        assert_eq!(root.find_id(6, String::new()).unwrap().path, "routes[2].name");
    }

    #[test]
    fn unusual_keys_are_quoted() {
        let mut path = "upstreams".to_owned();
        push_key(&mut path, "a.b");
        assert_eq!(path, "upstreams[\"a.b\"]");
    }
}
