//! Redis refuses under load: writes are given up and counted, reads are misses at worst, no request fails, and the level
//! is used again as soon as it answers.

use crate::harness::{ConfigText, Load, Origin, RedisServer, Sidecar};

use super::{config, counted, is_degraded_by, is_up, load, origin, unharmed, url};

/// Everything that the level needs and a user may be denied.
const EVERYTHING: &str = "~* &* +@all";

/// A sidecar under load over one Redis.
struct Stage {
    _origin: Origin,
    sidecar: Sidecar,
    load: Load,
}

impl Stage {
    async fn start(server: &RedisServer, keys: &str) -> Self {
        let origin = origin().await;
        let keys = format!("{}, timeout: 1s{keys}", url(server.address()));
        let config: ConfigText = config(&origin, &keys);
        let sidecar = Sidecar::start_with_files(&config, &[("password", "secret")]).await;
        is_up(&sidecar, true).await;
        let load = load(&sidecar);
        load.more(500).await;
        Self {
            _origin: origin,
            sidecar,
            load,
        }
    }

    /// The server refuses, in these words.
    async fn suffers(&self, words: &str) {
        is_degraded_by(&self.sidecar, words).await;
        self.load.more(300).await;
    }

    /// Errors and writes that were given up because of them.
    async fn refusals(&self) -> (f64, f64) {
        let level = [("level", "fleet")];
        let errors = self.sidecar.metric("outrigger_level_errors_total", &level).await;
        let dropped = "outrigger_level_dropped_writes_total";
        let refused = counted(&self.sidecar, dropped, ("reason", "refused")).await;
        let resting = counted(&self.sidecar, dropped, ("reason", "resting")).await;
        (errors, refused + resting)
    }

    /// The server refuses no more.
    async fn recovers(&self) {
        is_up(&self.sidecar, true).await;
        self.load.more(300).await;
    }

    async fn end(self) {
        let (errors, dropped) = self.refusals().await;
        assert!(
            errors > 0.5 && dropped > 0.5,
            "{errors} errors, {dropped} dropped"
        );
        unharmed(self.load).await;
    }
}

#[tokio::test]
async fn a_server_without_memory() {
    let server = RedisServer::start().await;
    let stage = Stage::start(&server, "").await;
    let () = server.command("CONFIG SET maxmemory-policy noeviction").await;
    let () = server.command("CONFIG SET maxmemory 1").await;
    stage.suffers("OOM ").await;
    let hits = async || {
        let labels = [("level", "fleet"), ("result", "hit")];
        stage
            .sidecar
            .metric("outrigger_cache_requests_total", &labels)
            .await
    };
    let before = hits().await;
    stage.load.more(600).await;
    assert!(hits().await > before, "what is there is still read");
    let () = server.command("CONFIG SET maxmemory 0").await;
    stage.recovers().await;
    stage.end().await;
}

#[tokio::test]
async fn a_primary_that_has_become_a_replica() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    let stage = Stage::start(&server, "").await;
    let () = server
        .command(&format!("REPLICAOF 127.0.0.1 {}", other.port()))
        .await;
    stage.suffers("READONLY ").await;
    let () = server.command("REPLICAOF NO ONE").await;
    stage.recovers().await;
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_loads_its_data() {
    // Slow until it is told otherwise.
    let slow = "loading-process-events-interval-bytes 1024\nkey-load-delay 5000";
    let mut server = RedisServer::start_with(slow).await;
    let stage = Stage::start(&server, "").await;
    let () = server.command("DEBUG POPULATE 20000 filler 1000").await;
    let () = server.command("SAVE").await;
    server.kill().await;
    server.restart().await;
    stage.suffers("LOADING ").await;
    let () = server.command("CONFIG SET key-load-delay 0").await;
    stage.recovers().await;
    stage.end().await;
}

#[tokio::test]
async fn a_user_that_loses_its_rights_or_its_password() {
    let server = RedisServer::start_with(&format!("user hub on >secret {EVERYTHING}")).await;
    let stage = Stage::start(&server, ", username: hub, password_file: \"@DIR@/password\"").await;
    // Rights are taken from connections that are open.
    let () = server.command("ACL SETUSER hub -@all").await;
    stage.suffers("NOPERM ").await;
    let () = server.command("ACL SETUSER hub +@all").await;
    stage.recovers().await;

    let () = server.command("ACL SETUSER hub off").await;
    let _: u64 = server.command("CLIENT KILL USER hub").await;
    stage.suffers("WRONGPASS ").await;
    let () = server.command("ACL SETUSER hub on").await;
    stage.recovers().await;

    // The file with the new password comes later.
    let () = server.command("ACL SETUSER hub resetpass >changed").await;
    let _: u64 = server.command("CLIENT KILL USER hub").await;
    stage.suffers("WRONGPASS ").await;
    stage.sidecar.write_file("password", "changed\n");
    stage.recovers().await;
    stage.end().await;
}
