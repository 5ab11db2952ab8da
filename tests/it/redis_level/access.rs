//! Who we say we are: a user that may do nothing but what is documented, passwords that change, TLS.

use std::fs;

use bytes::Bytes;
use outrigger::cache::level::LevelError;

use super::{Stage, name};
use crate::harness::{RedisCluster, RedisServer, eventually};

/// The rights that the documentation names for a level with the prefix `outrigger`.
const RIGHTS: &str = "resetchannels ~outrigger:* -@all +getrange +set +unlink +ping";

/// The rights in a cluster.
const CLUSTER_RIGHTS: &str = "resetchannels ~outrigger:* -@all +getrange +set +unlink +ping +cluster|slots";

fn with_password(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), text).unwrap();
    directory
}

/// A level of the user `hub` whose password is in `directory`.
fn stage(keys: &str, directory: &tempfile::TempDir) -> Stage {
    Stage::in_directory(
        &format!("{keys}, username: hub, password_file: password"),
        directory.path(),
    )
}

#[tokio::test]
async fn the_documented_rights_suffice() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(RIGHTS), "the README names other rights");
    let server = RedisServer::start_with(&format!("user hub on >secret {RIGHTS}")).await;
    let directory = with_password("secret\n");
    let stage = stage(&format!("url: \"redis://{}\"", server.address()), &directory);
    stage.works().await;
    stage.put(1, "value").await.unwrap();
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
    outrigger::cache::level::Level::remove(&stage.level, &super::key(1))
        .await
        .unwrap();
    // Nothing was tried that is not allowed, neither in the login nor later.
    let denied: Vec<redis::Value> = server.command("ACL LOG").await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn the_documented_rights_suffice_in_a_cluster() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(CLUSTER_RIGHTS), "the README names other rights");
    let mut cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let () = node
            .command(&format!("ACL SETUSER hub on >secret {CLUSTER_RIGHTS}"))
            .await;
    }
    let directory = with_password("secret");
    let stage = stage(&cluster.keys(), &directory);
    stage.works().await;
    for number in 0..24 {
        stage.put(number, "value").await.unwrap();
    }
    for node in cluster.nodes() {
        let denied: Vec<redis::Value> = node.command("ACL LOG").await;
        assert!(denied.is_empty(), "{denied:?}");
    }
}

#[tokio::test]
async fn keys_of_others_are_out_of_reach_and_the_refusal_is_told() {
    let server =
        RedisServer::start_with("user hub on >secret resetchannels ~other:* -@all +getrange +set +unlink")
            .await;
    let directory = with_password("secret");
    let stage = stage(&format!("url: \"redis://{}\"", server.address()), &directory);
    let words = eventually("the refusal", async || match stage.get(1).await {
        Err(LevelError::Refused(words)) => Some(words),
        _ => None,
    })
    .await;
    assert!(words.starts_with("NOPERM "), "{words}");
}

#[tokio::test]
async fn a_changed_password_needs_no_restart() {
    let mut server = RedisServer::start_with(&format!("user hub on >old {RIGHTS}")).await;
    let directory = with_password("wrong");
    let stage = stage(&format!("url: \"redis://{}\"", server.address()), &directory);
    let words = eventually("the refusal", async || match stage.get(1).await {
        Err(LevelError::Refused(words)) => Some(words),
        _ => None,
    })
    .await;
    assert!(words.starts_with("WRONGPASS "), "{words}");
    assert!(!words.contains("wrong "), "{words}");
    fs::write(directory.path().join("password"), "old").unwrap();
    stage.works().await;

    // The password is changed at the server, connections end, and the file follows.
    let () = server.command("ACL SETUSER hub resetpass >new").await;
    let _: u64 = server.command("CLIENT KILL USER hub").await;
    eventually("the old password to be refused", async || {
        matches!(stage.get(1).await, Err(LevelError::Refused(_))).then_some(())
    })
    .await;
    fs::write(directory.path().join("password"), "new\n").unwrap();
    stage.works().await;

    // The user is taken away, which ends its connections; it comes back.
    let () = server.command("ACL DELUSER hub").await;
    eventually("the user to be refused", async || {
        matches!(stage.get(1).await, Err(LevelError::Refused(_))).then_some(())
    })
    .await;
    let () = server.command(&format!("ACL SETUSER hub on >new {RIGHTS}")).await;
    stage.works().await;
    server.kill().await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_and_read_when_it_is_back() {
    let server = RedisServer::start_with(&format!("user hub on >secret {RIGHTS}")).await;
    let directory = with_password("secret");
    let stage = stage(&format!("url: \"redis://{}\"", server.address()), &directory);
    fs::rename(directory.path().join("password"), directory.path().join("away")).unwrap();
    let words = stage.get(1).await.unwrap_err().to_string();
    assert!(words.contains("password file"), "{words}");
    fs::rename(directory.path().join("away"), directory.path().join("password")).unwrap();
    stage.works().await;
}

#[tokio::test]
async fn tls_verifies_the_server_and_shows_who_we_are() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(&directory, "server");
    authority.issue(&directory, "client");
    fs::write(directory.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    let stranger = Authority::new();
    fs::write(directory.path().join("stranger.crt"), stranger.certificate.pem()).unwrap();
    let files = directory.path().to_owned();
    let server = RedisServer::start_with_files(
        directory,
        "tls-port 0
         tls-cert-file @DIR@/server.crt
         tls-key-file @DIR@/server.key
         tls-ca-cert-file @DIR@/ca.crt
         tls-auth-clients yes",
    )
    .await;
    let url = format!("url: \"redis://localhost:{}\"", server.port());
    let identity = "cert_file: client.crt, key_file: client.key";
    let with = |tls: &str| Stage::in_directory(&format!("{url}, tls: {{{tls}}}"), &files);
    with(&format!("ca_file: ca.crt, {identity}")).works().await;
    for tls in [
        format!("ca_file: stranger.crt, {identity}"),
        "ca_file: ca.crt".to_owned(),
        format!("ca_file: ca.crt, sni: elsewhere, {identity}"),
    ] {
        let stage = with(&tls);
        let answer = eventually("the refusal", async || match stage.get(1).await {
            Err(LevelError::Unreachable(words)) => Some(words),
            Err(LevelError::Timeout) => None,
            other => panic!("{tls}: {other:?}"),
        })
        .await;
        assert!(!answer.is_empty());
    }
    // An authority that is replaced is read again.
    let stage = with(&format!("ca_file: stranger.crt, {identity}"));
    assert!(stage.get(1).await.is_err());
    fs::write(files.join("stranger.crt"), authority.certificate.pem()).unwrap();
    stage.works().await;
    assert_eq!(name(1).len(), "outrigger:".len() + 64);
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    /// Writes a certificate for `localhost` and its key.
    fn issue(&self, directory: &tempfile::TempDir, name: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // OpenSSL takes a certificate with the name of its authority for one that signed itself.
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(directory.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
