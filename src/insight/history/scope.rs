//! Whom samples are about.

use std::collections::HashMap;
use std::sync::Arc;

use crate::telemetry::tally::Subject;

/// Most scopes of one process. Names come from the configuration, and every reload may bring others.
const SCOPES: usize = 4096;

/// Whom a sample is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The process, its container and the host.
    System,
    /// All routes together.
    All,
    /// A route, by name.
    Route(Arc<str>),
    /// An upstream, by name: its endpoints together.
    Upstream(Arc<str>),
    /// An endpoint: the name of its upstream, and its address.
    Endpoint(Arc<str>, Arc<str>),
    /// A cache level, by name: the requests that it decided.
    Level(Arc<str>),
}

impl Scope {
    /// How it is written in the file: kind, name and detail.
    pub(super) fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Self::System => ("system", "", ""),
            Self::All => ("all", "", ""),
            Self::Route(name) => ("route", name, ""),
            Self::Upstream(name) => ("upstream", name, ""),
            Self::Endpoint(upstream, address) => ("endpoint", upstream, address),
            Self::Level(name) => ("level", name, ""),
        }
    }

    /// Reads what [`Scope::parts`] wrote.
    pub(super) fn from_parts(kind: &str, name: &str, detail: &str) -> Option<Self> {
        let name = Arc::from(name);
        Some(match kind {
            "system" => Self::System,
            "all" => Self::All,
            "route" => Self::Route(name),
            "upstream" => Self::Upstream(name),
            "endpoint" => Self::Endpoint(name, Arc::from(detail)),
            "level" => Self::Level(name),
            _ => return None,
        })
    }
}

impl From<Subject> for Scope {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Route(name) => Self::Route(name),
            Subject::Endpoint(upstream, address) => Self::Endpoint(upstream, address),
            Subject::Level(name) => Self::Level(name),
        }
    }
}

/// A scope by number.
pub(super) type ScopeId = u32;

/// Numbers for scopes, for the life of the process.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    numbers: HashMap<Scope, ScopeId>,
    names: Vec<Scope>,
    full: bool,
}

impl Scopes {
    /// The number of a scope; none when there are too many.
    pub(super) fn number(&mut self, scope: &Scope) -> Option<ScopeId> {
        if let Some(number) = self.numbers.get(scope) {
            return Some(*number);
        }
        if self.names.len() >= SCOPES {
            if !self.full {
                tracing::warn!(
                    limit = SCOPES,
                    "the history takes up no more names until a restart"
                );
                self.full = true;
            }
            return None;
        }
        let number = ScopeId::try_from(self.names.len()).ok()?;
        self.names.push(scope.clone());
        self.numbers.insert(scope.clone(), number);
        Some(number)
    }

    /// The number of a scope that is known.
    pub(super) fn find(&self, scope: &Scope) -> Option<ScopeId> {
        self.numbers.get(scope).copied()
    }

    /// The scope of a number.
    pub(super) fn name(&self, number: ScopeId) -> Option<Scope> {
        self.names.get(number as usize).cloned()
    }

    /// Every scope.
    pub(super) fn all(&self) -> Vec<Scope> {
        self.names.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_bounded_and_read_back() {
        let mut scopes = Scopes::default();
        for number in 0..SCOPES {
            let scope = Scope::Route(number.to_string().into());
            assert_eq!(scopes.number(&scope), u32::try_from(number).ok());
        }
        assert_eq!(scopes.number(&Scope::All), None);
        assert_eq!(scopes.find(&Scope::Route("7".into())), Some(7));
        for scope in [
            Scope::System,
            Scope::All,
            Scope::Route("a".into()),
            Scope::Upstream("b".into()),
            Scope::Endpoint("c".into(), "d:1".into()),
            Scope::Level("e".into()),
        ] {
            let (kind, name, detail) = scope.parts();
            assert_eq!(Scope::from_parts(kind, name, detail), Some(scope.clone()));
        }
        assert_eq!(Scope::from_parts("other", "", ""), None);
    }
}
