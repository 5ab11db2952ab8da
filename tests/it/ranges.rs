//! Ranges: from whole entries, one or several (RFC 9110, section 14), and from stored parts, which grow together (RFC
//! 9111, sections 3.3 and 3.4).

use serde_json::json;

use crate::harness::{Answer, Call, ConfigText, Origin, Reply, Seen, Sidecar};

const CONTENT: &str = "0123456789abcdefghij";

/// An origin that answers `/a` whole or in ranges of the form `bytes=N-M`, with this tag.
fn ranged(seen: &Seen, tag: &str) -> Reply {
    let reply = match seen
        .header("range")
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
    {
        Some((first, last)) => {
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let last = last.min(CONTENT.len() - 1);
            Reply::ok(&CONTENT[first..=last]).with_status(206).header(
                "content-range",
                &format!("bytes {first}-{last}/{}", CONTENT.len()),
            )
        }
        None => Reply::ok(CONTENT),
    };
    let reply = reply
        .cache_control("max-age=60")
        .header("content-type", "text/plain");
    if tag.is_empty() {
        reply
    } else {
        reply.header("etag", tag)
    }
}

async fn origin(tag: &'static str) -> Origin {
    let origin = Origin::start().await;
    origin.on("/a", move |seen| ranged(&seen, tag));
    origin
}

async fn cached(origin: &Origin) -> Sidecar {
    Sidecar::start(&ConfigText::new(origin.address())).await
}

fn range(range: &str) -> Call {
    Call::get("/a").header("range", range)
}

async fn ask(sidecar: &Sidecar, wanted: &str) -> Answer {
    sidecar.fetch(range(wanted)).await
}

#[tokio::test]
async fn one_range_of_an_entry() {
    let origin = origin("\"1\"").await;
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;
    let part = ask(&sidecar, "bytes=2-4").await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "234"));
    assert_eq!(part.header("content-range"), "bytes 2-4/20");
    assert_eq!(part.header("content-length"), "3");
    assert!(part.cache_says("hit"), "{part:?}");
    let end = ask(&sidecar, "bytes=-3").await;
    assert_eq!(
        (end.text(), end.header("content-range")),
        ("hij", "bytes 17-19/20")
    );

    let nothing = ask(&sidecar, "bytes=20-").await;
    assert_eq!(
        (nothing.status.as_u16(), nothing.header("content-range")),
        (416, "bytes */20")
    );

    let other = sidecar
        .fetch(range("bytes=2-4").header("if-range", "\"2\""))
        .await;
    assert_eq!((other.status.as_u16(), other.text()), (200, CONTENT));
    let same = sidecar
        .fetch(range("bytes=2-4").header("if-range", "\"1\""))
        .await;
    assert_eq!(same.status, 206);
    let head = sidecar.fetch(range("bytes=2-4").method("HEAD")).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "20"));
    let known = sidecar
        .fetch(range("bytes=2-4").header("if-none-match", "\"1\""))
        .await;
    assert_eq!(known.status, 304);
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn several_ranges_of_an_entry() {
    let content: String = (0..1_000).map(|number| format!("{number:04}")).collect();
    let origin = Origin::start().await;
    let whole = content.clone();
    origin.on("/a", move |_| {
        Reply::ok(whole.clone())
            .cache_control("max-age=60")
            .header("content-type", "text/plain")
    });
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;
    let answer = ask(&sidecar, "bytes=3996-,0-7,9999-").await;
    assert_eq!(answer.status, 206, "{answer:?}");
    assert!(!answer.headers.contains_key("content-range"), "{answer:?}");
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let expected = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 3996-3999/4000\r\n\r\n0999\
         \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-7/4000\r\n\r\n00000001\
         \r\n--{boundary}--\r\n"
    );
    assert_eq!(answer.text(), expected);
    assert_eq!(answer.header("content-length"), expected.len().to_string());

    // What overlaps is sent once, in one part as it is.
    let absurd = ask(&sidecar, "bytes=0-,0-,0-,0-,1-").await;
    assert_eq!((absurd.status.as_u16(), absurd.text()), (206, content.as_str()));
    let many: Vec<String> = (0..40).map(|n| format!("{}-{}", n * 100, n * 100)).collect();
    let many = ask(&sidecar, &format!("bytes={}", many.join(","))).await;
    assert_eq!((many.status.as_u16(), many.text()), (200, content.as_str()));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_stored_part_answers_ranges_within_it_and_is_never_the_whole() {
    let origin = origin("").await;
    let sidecar = cached(&origin).await;
    let first = ask(&sidecar, "bytes=5-9").await;
    assert_eq!((first.status.as_u16(), first.text()), (206, "56789"));
    assert!(first.cache_says("stored"), "{first:?}");
    let again = ask(&sidecar, "bytes=5-9").await;
    assert!(again.cache_says("hit"), "{again:?}");
    let within = ask(&sidecar, "bytes=6-7").await;
    assert_eq!((within.status.as_u16(), within.text()), (206, "67"));
    assert_eq!(within.header("content-range"), "bytes 6-7/20");
    assert!(within.cache_says("hit"), "{within:?}");
    assert_eq!(origin.count("/a"), 1);

    let beyond = ask(&sidecar, "bytes=6-10").await;
    assert_eq!(beyond.text(), "6789a");
    assert!(!beyond.cache_says("hit"), "{beyond:?}");
    assert_eq!(origin.last("/a").header("range"), "bytes=6-10");
    let whole = sidecar.get("/a").await;
    assert_eq!((whole.status.as_u16(), whole.text()), (200, CONTENT));
    assert!(whole.cache_says("fwd=uri-miss"), "{whole:?}");
}

#[tokio::test]
async fn parts_of_the_same_content_become_an_entry() {
    let origin = origin("\"1\"").await;
    let sidecar = cached(&origin).await;
    for wanted in ["bytes=0-7", "bytes=15-19", "bytes=8-14"] {
        assert!(!ask(&sidecar, wanted).await.cache_says("hit"));
    }
    // Only the last part and what touches it was kept.
    assert!(ask(&sidecar, "bytes=8-19").await.cache_says("hit"));
    assert!(!ask(&sidecar, "bytes=0-7").await.cache_says("hit"));
    assert_eq!(origin.count("/a"), 4);
    let whole = sidecar.get("/a").await;
    assert_eq!((whole.status.as_u16(), whole.text()), (200, CONTENT));
    assert!(whole.cache_says("hit"), "{whole:?}");
    assert_eq!(whole.header("content-length"), "20");
    assert!(!whole.headers.contains_key("content-range"), "{whole:?}");
    assert_eq!(origin.count("/a"), 4);
}

#[tokio::test]
async fn without_a_strong_tag_or_with_another_nothing_is_put_together() {
    for (first, second) in [("", ""), ("W/\"1\"", "W/\"1\""), ("\"1\"", "\"2\"")] {
        let origin = origin(first).await;
        let sidecar = cached(&origin).await;
        ask(&sidecar, "bytes=0-9").await;
        origin.on("/a", move |seen| ranged(&seen, second));
        ask(&sidecar, "bytes=10-19").await;
        let whole = sidecar.get("/a").await;
        assert!(!whole.cache_says("hit"), "{first} {second}: {whole:?}");
        assert_eq!((whole.status.as_u16(), whole.text()), (200, CONTENT));
    }
}

#[tokio::test]
async fn an_origin_that_ignores_ranges_fills_the_cache() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok(CONTENT).cache_control("max-age=60"));
    let sidecar = cached(&origin).await;
    let first = ask(&sidecar, "bytes=0-1").await;
    assert_eq!((first.status.as_u16(), first.text()), (200, CONTENT));
    let second = ask(&sidecar, "bytes=0-1").await;
    assert_eq!((second.status.as_u16(), second.text()), (206, "01"));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_part_that_lies_about_itself_is_not_kept() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("01234")
            .with_status(206)
            .cache_control("max-age=60")
            .header("content-range", "bytes 4-9/10")
    });
    let sidecar = cached(&origin).await;
    for _ in 0..2 {
        let answer = ask(&sidecar, "bytes=-5").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (206, "01234"));
        assert!(!answer.cache_says("hit"), "{answer:?}");
    }
}

#[tokio::test]
async fn parts_are_purged_invalidated_and_kept_apart_like_whole_answers() {
    let origin = origin("\"1\"").await;
    let sidecar = cached(&origin).await;
    let stored = async || {
        assert!(!ask(&sidecar, "bytes=0-4").await.cache_says("hit"));
        assert!(ask(&sidecar, "bytes=0-4").await.cache_says("hit"));
    };
    stored().await;
    let purged = sidecar.purge(&json!({"pattern": "api:*/a"})).await;
    assert_eq!(purged["matched"], 1);
    stored().await;
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    stored().await;
    origin.on("/a", |seen| match seen.method.as_str() {
        "PUT" => Reply::status(204),
        _ => ranged(&seen, "\"1\""),
    });
    assert_eq!(sidecar.fetch(Call::new("PUT", "/a")).await.status, 204);
    stored().await;
    // A part is for whom it was fetched alone.
    let other = sidecar.fetch(range("bytes=0-4").bearer("somebody")).await;
    assert!(!other.cache_says("hit"), "{other:?}");
    sidecar.fetch(range("bytes=5-9").bearer("somebody")).await;
    assert!(!ask(&sidecar, "bytes=5-9").await.cache_says("hit"));
}
