//! `cache.levels`: the list, and the level on disk.

use std::collections::BTreeMap;

use super::cache::{keyring, memory};
use super::{Cx, redis};
use crate::config::keyring::Keyring;
use crate::config::model::{DiskLevel, LowerLevel, MemoryLevel, Name};
use crate::config::raw;
use crate::config::tree::At;
use crate::config::units::format_size;

/// Most levels, memory included.
const MAX_LEVELS: usize = 8;
const DEFAULT_DISK: u64 = 1 << 30;
/// With less, a block of the file would be too small for common responses.
const MIN_DISK: u64 = 16 << 20;

/// The levels of a configuration.
#[derive(Default)]
pub(super) struct Levels {
    pub(super) memory: Option<MemoryLevel>,
    pub(super) lower: Vec<LowerLevel>,
    pub(super) keyrings: BTreeMap<Name, Keyring>,
}

/// Resolves the list: first a memory level, then those below it.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: Vec<raw::Level>) -> Levels {
    let mut levels = Levels::default();
    if raw.len() > MAX_LEVELS {
        cx.problem(at, format!("there are more than {MAX_LEVELS} levels"));
    }
    if let Some(raw::Level::Disk(_) | raw::Level::Redis(_)) = raw.first() {
        cx.problem(&at.index(0), "the first level is not in memory")
            .hint("put `- memory: {}` before it");
    }
    let mut names = Vec::new();
    for (index, level) in raw.into_iter().enumerate() {
        let level_at = at.index(index);
        let key = match &level {
            raw::Level::Memory(_) => "memory",
            raw::Level::Disk(_) => "disk",
            raw::Level::Redis(_) => "redis",
        };
        let level_at = level_at.key(key);
        match level {
            raw::Level::Memory(_) if levels.memory.is_some() => {
                cx.problem(&level_at, "there is a memory level already")
                    .hint("one is enough: give it a larger `capacity`");
            }
            raw::Level::Memory(level) => {
                let level = memory(cx, &level_at, level);
                names.push((index, key, level.name.clone()));
                levels.memory = Some(level);
            }
            raw::Level::Disk(level) => {
                let (level, keyring) = disk(cx, &level_at, level);
                names.push((index, key, level.name.clone()));
                levels
                    .keyrings
                    .extend(keyring.map(|keyring| (level.name.clone(), keyring)));
                levels.lower.push(LowerLevel::Disk(level));
            }
            raw::Level::Redis(mut level) => {
                let encrypt = level.encrypt.take();
                let keyring = encrypt.and_then(|encrypt| keyring(cx, &level_at.key("encrypt"), encrypt));
                if let Some(level) = redis::resolve(cx, &level_at, *level) {
                    names.push((index, key, level.name.clone()));
                    levels
                        .keyrings
                        .extend(keyring.map(|keyring| (level.name.clone(), keyring)));
                    levels.lower.push(LowerLevel::Redis(Box::new(level)));
                }
            }
        }
    }
    unique_names(cx, at, &names);
    unique_paths(cx, at, &levels.lower, &names);
    levels
}

fn disk(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Disk) -> (DiskLevel, Option<Keyring>) {
    let path = cx.required(at, "path", raw.path).unwrap_or_default();
    let capacity = raw.capacity.map_or(DEFAULT_DISK, |size| size.0.0.0);
    if capacity < MIN_DISK {
        cx.problem(
            &at.key("capacity"),
            format!("a level on disk has at least {}", format_size(MIN_DISK)),
        );
    }
    let keyring = raw
        .encrypt
        .and_then(|encrypt| keyring(cx, &at.key("encrypt"), encrypt));
    let level = DiskLevel {
        name: raw.name.map_or_else(|| "disk".into(), |name| name.0.0),
        path: cx.absolute(&path),
        capacity,
    };
    (level, keyring)
}

fn unique_names(cx: &mut Cx<'_>, at: &At<'_>, names: &[(usize, &'static str, Name)]) {
    for (position, (index, key, name)) in names.iter().enumerate() {
        if let Some((first, first_key, _)) = names.iter().take(position).find(|(_, _, other)| other == name) {
            cx.problem(
                &at.index(*index).key(key).key("name"),
                format!("`{name}` is already used by cache.levels[{first}].{first_key}"),
            );
        }
    }
}

/// Two levels in one directory would be refused when they are opened; that is late.
fn unique_paths(cx: &mut Cx<'_>, at: &At<'_>, lower: &[LowerLevel], names: &[(usize, &'static str, Name)]) {
    let mut seen: Vec<&DiskLevel> = Vec::new();
    for level in lower {
        let LowerLevel::Disk(level) = level else { continue };
        let index = names.iter().find(|(_, _, name)| *name == level.name);
        if let Some(other) = seen.iter().find(|other| other.path == level.path)
            && let Some((index, ..)) = index
            && !level.path.as_os_str().is_empty()
        {
            cx.problem(
                &at.index(*index).key("disk").key("path"),
                format!("the level `{}` is in this directory", other.name),
            );
        }
        seen.push(level);
    }
}
