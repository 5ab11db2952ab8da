//! Keyring files.

use std::path::Path;

use super::{environment, with_route};
use crate::config::keyring::Keyring;
use crate::config::{effective, restart_required};

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// The same in base64, and two others.
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const THIRD: &str = "fe0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn parse(text: &str) -> Result<Keyring, String> {
    Keyring::parse(Path::new("ring.yaml"), text.as_bytes()).map_err(|problems| {
        let shown = problems.0.iter().map(|problem| {
            assert_eq!(
                (problem.file.as_str(), problem.excerpt.as_str()),
                ("ring.yaml", "")
            );
            let hint = problem.hint.as_deref().map(|_| " | hint").unwrap_or_default();
            format!(
                "{}:{} {}: {}{hint}",
                problem.line, problem.column, problem.path, problem.message
            )
        });
        shown.collect::<Vec<_>>().join("\n")
    })
}

fn ring(keys: &str) -> String {
    format!("index_secret: \"{THIRD}\"\nkeys:\n{keys}")
}

#[test]
fn keys_are_hexadecimal_or_base64_and_in_their_order() {
    let text = ring(&format!(
        "  - {{id: \"2026-01\", secret: {BASE64}}}\n  - id: b.2\n    secret: \"{SECOND}\"\n"
    ));
    let ring = parse(&text).unwrap();
    let ids: Vec<_> = ring.keys.iter().map(|key| &*key.id).collect();
    assert_eq!(ids, ["2026-01", "b.2"]);
    let shown = |secret: &crate::config::keyring::KeySecret| hex::encode(secret.reveal().as_slice());
    assert_eq!(shown(&ring.keys[0].secret), HEX);
    assert_eq!(shown(&ring.keys[1].secret), SECOND);
    assert_eq!(shown(&ring.index), THIRD);
    assert_eq!(ring.file, Path::new("ring.yaml"));
    assert!(!format!("{ring:?}").contains("01, 2"));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let refused = |text: &str, expected: &[&str]| {
        assert_eq!(
            parse(text).unwrap_err().lines().collect::<Vec<_>>(),
            expected,
            "{text}"
        );
    };
    refused("", &["1:1 : expected a map, found nothing"]);
    refused(
        "{}",
        &[
            "1:1 index_secret: `index_secret` is missing",
            "1:1 keys: a ring has at least one key",
        ],
    );
    refused(
        &ring("  - {id: a, secret: 00}\n  - {secret: x, di: 1}\n  - {id: '?'}\n"),
        &[
            "3:21 keys[0].secret: not 32 bytes in hexadecimal or base64 | hint",
            "4:14 keys[1].secret: not 32 bytes in hexadecimal or base64 | hint",
            "4:17 keys[1].di: unknown key `di` | hint",
            "5:5 keys[2].secret: `secret` is missing",
            "5:10 keys[2].id: `?` is not a name | hint",
        ],
    );
    refused(
        &ring(&format!(
            "  - {{id: a, secret: {BASE64}}}\n  - {{id: a, secret: \"{HEX}\"}}\n  - {{id: c, secret: \"{THIRD}\"}}\n"
        )),
        &[
            "4:10 keys[1].id: the id is already used by keys[0]",
            "4:21 keys[1].secret: the secret is used twice",
            "5:21 keys[2].secret: the secret is used twice",
        ],
    );
    refused(
        &ring(&format!("  - {{id: a, secret: \"{}\"}}\n", "00".repeat(32))),
        &["3:21 keys[0].secret: 32 equal bytes are not a secret | hint"],
    );
    refused("keys: [\n", &["2:1 : the file is not YAML"]);
}

#[test]
fn no_problem_shows_a_secret() {
    for secret in ["c2VjcmV0c2VjcmV0", "123456789012345678901234567890", HEX, BASE64] {
        for text in [
            format!("keys: {secret}"),
            format!("keys: [{secret}]"),
            format!("keys: [{{id: {secret}%, secret: {secret}}}]"),
            format!("keys: [{{id: a, secret: [{secret}]}}]"),
            format!("keys: [{{id: a, {secret}: {secret}}}]"),
            format!("index_secret: {{{secret}: 1}}"),
            format!("index_secret: {secret}\nindex_secret: {secret}"),
            format!("index_secret: \"{secret}\n"),
            format!("index_secret: *{secret}\n"),
            format!("index_secret: !{secret} x\n"),
            secret.to_owned(),
            format!("{secret}: 1"),
        ] {
            let shown = parse(&text).unwrap_err();
            assert!(!shown.contains(&secret[..16]), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_keyring_is_a_file_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.yaml");
    let text = with_route(
        "cache: {levels: [memory: {}, redis: {name: fleet, url: 'redis://x', encrypt: {keyring_file: ring.yaml}}]}",
    );
    let load = || crate::config::parse("test.yaml", &text, dir.path(), &environment());
    std::fs::write(&path, ring(&format!("  - {{id: a, secret: {BASE64}}}\n"))).unwrap();
    let first = load().unwrap();
    assert!(first.files.contains(&path));
    assert_eq!(first.config.cache.keyrings["fleet"].keys.len(), 1);
    let shown = effective(&first.config).to_string();
    assert!(
        shown.contains("ring.yaml") && !shown.contains(BASE64) && !shown.contains(HEX),
        "{shown}"
    );

    let two = format!("  - {{id: a, secret: {BASE64}}}\n  - {{id: b, secret: \"{SECOND}\"}}\n");
    std::fs::write(&path, ring(&two)).unwrap();
    let second = load().unwrap();
    assert_ne!(second.digest, first.digest, "a reload notices");
    assert_eq!(second.config.cache.keyrings["fleet"].keys.len(), 2);
    assert_eq!(restart_required(&first.config, &second.config), [""; 0]);

    std::fs::write(&path, ring("  - {id: a}\n")).unwrap();
    let problems = load().unwrap_err();
    let shown = problems.to_string();
    let place = format!(" --> {}:3:5 (keys[0].secret)", path.display());
    assert!(shown.contains(&place) && !shown.contains(THIRD), "{shown}");
    std::fs::remove_file(&path).unwrap();
    let problem = &load().unwrap_err().0[0];
    let at = (problem.file.as_str(), problem.path.as_str());
    assert_eq!(at, ("test.yaml", "cache.levels[1].redis.encrypt.keyring_file"));
}
