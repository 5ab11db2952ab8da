//! A level on file systems that are full or read only, which takes the rights to mount one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Call, ConfigText, Load, OnClose, Origin, Reply, Sidecar, eventually};

/// A file system of its own; it goes with the value.
struct Mounted {
    directory: TempDir,
}

impl Mounted {
    /// One in memory of at most 48 MiB; none without the right to mount it.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=48m", "tmpfs"], directory.path());
        mounted.then_some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(mount(&["-o", &options], self.path()), "{options}");
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        let file = self.path().join("filler");
        let mut size = 48 << 20;
        while size >= 4096 {
            let held = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            let more = vec![0; size];
            let mut all = fs::File::options().create(true).append(true).open(&file).unwrap();
            if std::io::Write::write_all(&mut all, &more).is_err() {
                all.set_len(held).unwrap();
                size /= 2;
            }
        }
        file
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("-l").arg(self.path()).status();
        drop(ended);
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(options).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        let body = format!("{} {}", seen.path, "x".repeat(16 << 10));
        Reply::ok(body).cache_control("max-age=600")
    });
    origin
}

fn over(origin: &Origin, directory: &Path) -> ConfigText {
    let path = directory.join("level");
    ConfigText::new(origin.address())
        .memory("capacity: 1MiB")
        .level(&format!(
            "disk: {{name: l2, path: \"{}\", capacity: 32MiB}}",
            path.display()
        ))
}

async fn is_up(sidecar: &Sidecar, up: bool) {
    eventually(&format!("the level to be up: {up}"), async || {
        let value = sidecar.metric("outrigger_level_up", &[("level", "l2")]).await;
        ((value > 0.5) == up).then_some(())
    })
    .await;
}

/// What `/readyz?verbose` says of the level; the answer is 200 in any case.
async fn told(sidecar: &Sidecar) -> (String, String) {
    let answer = sidecar.admin(Call::get("/readyz?verbose")).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let mut checks = answer["checks"].as_array().unwrap().iter();
    let level = checks.find(|check| check["name"] == "level l2").unwrap();
    let text = |field: &str| level[field].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

/// Times that the log tells of the level's trouble.
fn warnings(sidecar: &Sidecar) -> usize {
    let lines = sidecar.logs().text();
    lines
        .lines()
        .filter(|line| line.contains("cache level degraded"))
        .count()
}

fn load(sidecar: &Sidecar) -> Load {
    let targets: Vec<String> = (0..200).map(|number| format!("/item/{number}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    Load::start(sidecar.address(), 4, &targets, OnClose::Reconnect)
}

async fn unharmed(load: Load) {
    let report = load.stop().await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

#[tokio::test]
async fn a_full_file_system_is_told_once_and_used_when_there_is_room() {
    let Some(mounted) = Mounted::new() else {
        return println!("skipped: no right to mount a file system");
    };
    let filler = mounted.fill();
    let origin = origin().await;
    let sidecar = Sidecar::start(&over(&origin, mounted.path())).await;
    is_up(&sidecar, false).await;
    let load = load(&sidecar);
    load.more(600).await;
    let (status, detail) = told(&sidecar).await;
    assert_eq!(status, "degraded");
    assert!(detail.contains("No space left"), "{detail}");
    // It is tried again and again, and told once.
    assert_eq!(warnings(&sidecar), 1);
    fs::remove_file(filler).unwrap();
    is_up(&sidecar, true).await;
    load.more(600).await;
    eventually("hits on disk", async || {
        let labels = [("level", "l2"), ("result", "hit")];
        let hits = sidecar.metric("outrigger_cache_requests_total", &labels).await;
        (hits > 0.5).then_some(())
    })
    .await;
    assert_eq!((told(&sidecar).await.0.as_str(), warnings(&sidecar)), ("ok", 1));
    unharmed(load).await;
}

#[tokio::test]
async fn a_file_system_that_fills_up_takes_nothing_from_the_level() {
    let Some(mounted) = Mounted::new() else {
        return println!("skipped: no right to mount a file system");
    };
    let origin = origin().await;
    let sidecar = Sidecar::start(&over(&origin, mounted.path())).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(100).await;
    // Its space was reserved when it was opened.
    mounted.fill();
    load.more(1000).await;
    let labels = [("level", "l2"), ("op", "put"), ("error", "refused")];
    let refused = sidecar.metric("outrigger_level_errors_total", &labels).await;
    assert!(refused < 0.5, "{refused}");
    assert_eq!((told(&sidecar).await.0.as_str(), warnings(&sidecar)), ("ok", 0));
    unharmed(load).await;
}

#[tokio::test]
async fn a_read_only_file_system_is_told_once_and_used_when_it_can_be_written() {
    let Some(mounted) = Mounted::new() else {
        return println!("skipped: no right to mount a file system");
    };
    mounted.remount("ro");
    let origin = origin().await;
    let sidecar = Sidecar::start(&over(&origin, mounted.path())).await;
    is_up(&sidecar, false).await;
    let load = load(&sidecar);
    load.more(600).await;
    let (status, detail) = told(&sidecar).await;
    assert_eq!(status, "degraded");
    assert!(detail.contains("Read-only"), "{detail}");
    mounted.remount("rw");
    is_up(&sidecar, true).await;
    load.more(600).await;
    assert_eq!((told(&sidecar).await.0.as_str(), warnings(&sidecar)), ("ok", 1));
    unharmed(load).await;
}
