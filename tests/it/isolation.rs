//! No byte of one principal reaches another.

use crate::harness::{Answer, Call, ConfigText, Origin, Reply, Sidecar};

/// An origin that says who asks, and lets everybody cache it without naming `Authorization` in `Vary`.
async fn who() -> Origin {
    let origin = Origin::start().await;
    origin.on("/me", |seen| {
        let who = format!(
            "{}|{}|{}",
            seen.header("authorization"),
            seen.header("cookie"),
            seen.header("x-user-id")
        );
        Reply::ok(who)
    });
    origin
}

/// A route for `/me` with a fixed life and these further cache keys.
async fn sidecar(origin: &Origin, keys: &str) -> Sidecar {
    let route = format!(
        "- {{name: me, match: {{path: /me}}, upstream: hub, cache: {{mode: \"on\", ttl: 60s{keys}}}}}"
    );
    Sidecar::start(&ConfigText::new(origin.address()).routes(&route)).await
}

fn says(answer: &Answer, who: &str) {
    assert!(answer.text().contains(who), "expected {who}: {answer:?}");
}

#[tokio::test]
async fn two_users_with_credentials_never_see_each_other() {
    let origin = who().await;
    let sidecar = sidecar(&origin, "").await;
    for _ in 0..3 {
        for user in ["alice", "bob"] {
            says(&sidecar.fetch(Call::get("/me").bearer(user)).await, user);
            says(
                &sidecar
                    .fetch(Call::get("/me").header("cookie", &format!("sid={user}-c")))
                    .await,
                &format!("{user}-c"),
            );
        }
        // Without credentials one is nobody else either.
        assert_eq!(sidecar.get("/me").await.text(), "||");
    }
}

#[tokio::test]
async fn a_user_has_hits_of_their_own_where_the_route_says_so() {
    let origin = who().await;
    let sidecar = sidecar(&origin, ", vary: {principal: true}, share: principal").await;
    for user in ["alice", "bob"] {
        says(&sidecar.fetch(Call::get("/me").bearer(user)).await, user);
        let again = sidecar.fetch(Call::get("/me").bearer(user)).await;
        says(&again, user);
        assert!(again.cache_says("hit"), "{again:?}");
    }
    assert_eq!(origin.count("/me"), 2);
}

#[tokio::test]
async fn share_all_gives_one_answer_to_everybody() {
    let origin = who().await;
    let sidecar = sidecar(&origin, ", share: all").await;
    says(&sidecar.fetch(Call::get("/me").bearer("alice")).await, "alice");
    let other = sidecar.fetch(Call::get("/me").bearer("bob")).await;
    says(&other, "alice");
    assert!(other.cache_says("hit"), "{other:?}");
    assert_eq!(origin.count("/me"), 1);
}

#[tokio::test]
async fn share_all_leaves_authorization_to_the_origin_where_it_gives_the_life() {
    // RFC 9111, section 3.5.
    let origin = Origin::start().await;
    for (path, control) in [("/own", "max-age=60"), ("/all", "s-maxage=60")] {
        origin.on(path, move |_| Reply::ok(path).cache_control(control));
    }
    let route = "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\", share: all}}";
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).routes(route)).await;
    for (path, hit) in [("/own", false), ("/all", true)] {
        sidecar.fetch(Call::get(path).bearer("alice")).await;
        for other in [Call::get(path).bearer("bob"), Call::get(path)] {
            let answer = sidecar.fetch(other).await;
            assert_eq!(answer.cache_says("hit"), hit, "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_explicitly_public_answer_is_shared() {
    let origin = Origin::start().await;
    origin.on("/me", |_| {
        Reply::ok("for all").cache_control("public, max-age=60")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.fetch(Call::get("/me").bearer("alice")).await;
    // RFC 9111, section 3.5.
    let other = sidecar.fetch(Call::get("/me").bearer("bob")).await;
    assert!(other.cache_says("hit"), "{other:?}");
    assert_eq!(origin.count("/me"), 1);
}

#[tokio::test]
async fn what_a_confirmation_no_longer_calls_public_belongs_to_whom_it_confirms() {
    let origin = Origin::start().await;
    origin.on("/me", |seen| {
        if seen.header("if-none-match").is_empty() {
            let who = seen.header("authorization").to_owned();
            let control = if who.contains("alice") {
                "public, max-age=0"
            } else {
                "max-age=60"
            };
            return Reply::ok(who).header("etag", "\"1\"").cache_control(control);
        }
        Reply::status(304)
            .header("etag", "\"1\"")
            .cache_control("max-age=60")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.fetch(Call::get("/me").bearer("alice")).await;
    // RFC 9111, sections 3.5 and 4.3.4: this one is confirmed for bob alone.
    let confirmed = sidecar.fetch(Call::get("/me").bearer("bob")).await;
    says(&confirmed, "alice");
    assert!(confirmed.cache_says("fwd-status=304"), "{confirmed:?}");
    assert!(
        sidecar
            .fetch(Call::get("/me").bearer("bob"))
            .await
            .cache_says("hit")
    );
    for other in [Call::get("/me").bearer("carol"), Call::get("/me")] {
        let answer = sidecar.fetch(other).await;
        assert!(!answer.cache_says("hit"), "{answer:?}");
        assert!(!answer.text().contains("alice"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_header_or_a_cookie_can_name_the_principal() {
    let origin = who().await;
    let by_header = sidecar(
        &origin,
        ", vary: {principal: {header: x-user-id}}, share: principal",
    )
    .await;
    let as_user = |user: &str| Call::get("/me").header("x-user-id", user);
    says(&by_header.fetch(as_user("alice")).await, "|alice");
    says(&by_header.fetch(as_user("bob")).await, "|bob");
    assert!(by_header.fetch(as_user("alice")).await.cache_says("hit"));

    let by_cookie = sidecar(&origin, ", vary: {principal: {cookie: sid}}, share: principal").await;
    let with_cookie = |cookie: &str| Call::get("/me").header("cookie", cookie);
    says(
        &by_cookie.fetch(with_cookie("sid=alice; theme=dark")).await,
        "sid=alice",
    );
    says(
        &by_cookie.fetch(with_cookie("sid=bob; theme=dark")).await,
        "sid=bob",
    );
    let again = by_cookie.fetch(with_cookie("theme=light; sid=alice")).await;
    says(&again, "sid=alice");
    assert!(again.cache_says("hit"), "{again:?}");
}

#[tokio::test]
async fn tenants_share_within_and_not_beyond() {
    let origin = Origin::start().await;
    origin.on("/me", |seen| Reply::ok(seen.header("x-tenant").to_owned()));
    let sidecar = sidecar(&origin, ", share: {tenant: {header: x-tenant}}").await;
    let of = |tenant: &str, user: &str| Call::get("/me").header("x-tenant", tenant).bearer(user);
    assert_eq!(sidecar.fetch(of("red", "alice")).await.text(), "red");
    assert!(sidecar.fetch(of("red", "bob")).await.cache_says("hit"));
    assert_eq!(sidecar.fetch(of("blue", "alice")).await.text(), "blue");
    // Who names no tenant is in none: not even in the one of the others who name none.
    for _ in 0..2 {
        assert!(!sidecar.get("/me").await.cache_says("hit"));
    }
}

#[tokio::test]
async fn connection_cannot_remove_who_asks() {
    let origin = who().await;
    let sidecar = sidecar(
        &origin,
        ", vary: {principal: {header: x-user-id}}, share: principal",
    )
    .await;
    let call = Call::get("/me")
        .header("x-user-id", "alice")
        .header("connection", "x-user-id, authorization");
    says(
        &sidecar.fetch(call.bearer("secret")).await,
        "Bearer secret||alice",
    );
}

#[tokio::test]
async fn a_header_that_connection_takes_away_selects_no_variant() {
    let origin = Origin::start().await;
    origin.on("/x", |seen| {
        Reply::ok(seen.header("accept-language").to_owned())
            .cache_control("max-age=60")
            .header("vary", "accept-language")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let german = || Call::get("/x").header("accept-language", "de");
    let stripped = german().header("connection", "accept-language");
    assert_eq!(sidecar.fetch(stripped).await.text(), "");
    assert_eq!(sidecar.fetch(german()).await.text(), "de");
    assert_eq!(sidecar.get("/x").await.text(), "");
}

#[tokio::test]
async fn connection_takes_no_credential_away() {
    let origin = Origin::start().await;
    origin.on("/x", |seen| {
        Reply::ok(seen.header("x-auth-token").to_owned()).cache_control("max-age=60")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let call = Call::get("/x").header("x-auth-token", "alice");
    assert_eq!(
        sidecar
            .fetch(call.header("connection", "x-auth-token"))
            .await
            .text(),
        "alice"
    );
}

#[tokio::test]
async fn what_varies_on_the_clients_address_is_not_shared() {
    let origin = Origin::start().await;
    origin.on("/x", |seen| {
        Reply::ok(seen.header("x-real-ip").to_owned())
            .cache_control("max-age=60")
            .header("vary", "x-real-ip")
    });
    let config = ConfigText::new(origin.address()).listener("trusted_proxies: [127.0.0.0/8]");
    let sidecar = Sidecar::start(&config).await;
    for client in ["192.0.2.1", "192.0.2.2"] {
        let answer = sidecar
            .fetch(Call::get("/x").header("x-forwarded-for", client))
            .await;
        assert_eq!(answer.text(), client, "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_trusted_peer_says_about_the_host_is_part_of_the_key() {
    let origin = Origin::start().await;
    origin.on("/x", |seen| {
        Reply::ok(seen.header("x-forwarded-host").to_owned()).cache_control("max-age=60")
    });
    let named = |name: &str| {
        Call::get("/x")
            .header("host", "hub.local")
            .header("x-forwarded-host", name)
    };
    let plain = ConfigText::new(origin.address());
    let trusting = Sidecar::start(&plain.clone().listener("trusted_proxies: [127.0.0.0/8]")).await;
    for host in ["a.example", "b.example"] {
        assert_eq!(trusting.fetch(named(host)).await.text(), host);
    }
    let wary = Sidecar::start(&plain).await;
    assert_eq!(wary.fetch(named("a.example")).await.text(), "hub.local");
    assert!(
        wary.fetch(named("b.example")).await.cache_says("hit"),
        "strangers are not believed"
    );
}
