//! Notices that the configuration changed: directory events, and a slow comparison of contents in case events are
//! lost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::reload::Controller;

/// Editors and Kubernetes change a file in several steps; the reload waits until they are over.
const SETTLE: Duration = Duration::from_millis(100);
/// Contents are compared this often even without an event.
const POLL: Duration = Duration::from_secs(10);

/// Reloads whenever the content of a watched file differs from what is in force. Never returns.
///
/// Directories are watched rather than files: Kubernetes replaces the symbolic link `..data` beside the file, and
/// editors rename a new file over the old one; both end the life of a file's own watch.
pub async fn watch(controller: Arc<Controller>) {
    let changed = Arc::new(Notify::new());
    let mut watcher = watcher(Arc::clone(&changed));
    let mut watched = BTreeSet::new();
    loop {
        if let Some(watcher) = &mut watcher {
            follow(watcher, &mut watched, &controller.files());
        }
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(POLL) => {}
        }
        let checked = Arc::clone(&controller);
        let outdated = tokio::task::spawn_blocking(move || checked.is_outdated()).await;
        if outdated.unwrap_or(false) {
            Controller::reload_in_background(Arc::clone(&controller)).await;
        }
    }
}

fn watcher(changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    };
    notify::recommended_watcher(on_event)
        .inspect_err(|error| tracing::warn!(%error, "no directory events; contents are compared every 10 s"))
        .ok()
}

fn follow(watcher: &mut RecommendedWatcher, watched: &mut BTreeSet<PathBuf>, files: &[PathBuf]) {
    let directories: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.parent())
        .map(|parent| {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_path_buf()
            }
        })
        .collect();
    for directory in &directories {
        if watched.contains(directory) {
            continue;
        }
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                watched.insert(directory.clone());
            }
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "cannot watch for changes")
            }
        }
    }
    let gone: Vec<PathBuf> = watched.difference(&directories).cloned().collect();
    for directory in gone {
        // A directory that no longer exists has no watch to remove.
        drop(watcher.unwatch(&directory));
        watched.remove(&directory);
    }
}
