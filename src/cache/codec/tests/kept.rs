//! What is sealed, for how long, and in how many bytes.

use super::fixture::*;
use crate::cache::life::Life;

const TEXT: &[(&str, &str)] = &[("content-type", "text/plain; charset=utf-8")];

fn life(fresh_for: u64, stale: u64) -> Life {
    Life {
        generated_at: NOW,
        fresh_for: Duration::from_secs(fresh_for),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::from_secs(stale),
        stale_if_disconnected: Duration::ZERO,
        must_revalidate: false,
        always_validate: false,
        adapted: None,
    }
}

#[test]
fn a_value_lives_as_long_as_it_is_of_use() {
    let codec = codec(Compression::Off, None);
    let ttl = |life: Life, headers: &[(&str, &str)]| {
        let answer = Answer {
            life,
            headers,
            ..Answer::default()
        };
        codec
            .seal(&DIGEST, &answer.slot(), NOW)
            .map(|sealed| sealed.ttl.as_secs())
    };
    let etag: &[(&str, &str)] = &[("etag", "\"1\"")];
    assert_eq!(ttl(life(60, 0), TEXT), Ok(60));
    assert_eq!(ttl(life(60, 300), TEXT), Ok(360), "stale in place of an error");
    assert_eq!(ttl(life(60, 300), etag), Ok(3660), "or validated");
    assert_eq!(ttl(life(60, 7200), etag), Ok(7260));
    assert_eq!(
        ttl(life(u64::MAX / 2, 0), TEXT),
        Ok(30 * 24 * 3600),
        "as the purge log"
    );
    let must = Life {
        must_revalidate: true,
        ..life(60, 300)
    };
    assert_eq!((ttl(must, TEXT), ttl(must, etag)), (Ok(60), Ok(3660)));
    let always = Life {
        always_validate: true,
        ..life(0, 300)
    };
    assert_eq!(ttl(always, TEXT), Err(NotSealed::Expired));
    assert_eq!(ttl(always, etag), Ok(3600));
    assert_eq!(ttl(life(0, 0), TEXT), Err(NotSealed::Expired));
}

#[test]
fn variants_that_are_of_no_use_any_more_are_left_out() {
    let codec = codec(Compression::Off, None);
    let of = |language, life| Answer {
        language,
        life,
        headers: TEXT,
        ..Answer::default()
    };
    let slot = of("de", life(60, 0)).slot();
    let slot = slot.with(of("en", life(0, 0)).entry(), u64::MAX);
    let slot = slot.with(of("fr", life(90, 0)).entry(), u64::MAX);
    let sealed = codec.seal(&DIGEST, &slot, NOW).unwrap();
    let opened = codec.open(&DIGEST, &sealed.value, NOW).unwrap();
    let lives: Vec<_> = opened.variants().map(|entry| entry.life().fresh_for).collect();
    assert_eq!(lives, [90, 60].map(Duration::from_secs));
    assert_eq!(sealed.ttl.as_secs(), 90);
}

#[test]
fn the_newest_variants_are_kept_as_far_as_there_is_room() {
    let codec = codec(Compression::Off, None);
    let of = |language, bytes| {
        let body = vec![b'x'; bytes];
        let answer = Answer {
            language,
            body: &body,
            ..Answer::default()
        };
        answer.entry()
    };
    let (small, large) = (of("de", 10), of("en", 1_200_000));
    let slot = Slot::new(small.clone()).with(large, u64::MAX);
    let slot = slot.with(of("fr", 1_200_000), u64::MAX);
    let opened = codec.open(&DIGEST, &sealed(&codec, &slot), NOW).unwrap();
    assert_eq!(opened.variants().count(), 1, "the second does not fit");
    let slot = Slot::new(of("en", 2 << 20)).with(small, u64::MAX);
    let opened = codec.open(&DIGEST, &sealed(&codec, &slot), NOW).unwrap();
    assert_eq!(opened.variants().count(), 1);
    let too_large = Slot::new(of("de", 2 << 20));
    let refused = codec.seal(&DIGEST, &too_large, NOW).unwrap_err();
    assert_eq!(refused, NotSealed::TooLarge);
}

#[test]
fn what_is_sensitive_is_sealed_only_with_a_key() {
    let answer = Answer {
        sensitive: true,
        ..Answer::default()
    };
    let plain = codec(Compression::Zstd, None);
    let refused = plain.seal(&DIGEST, &answer.slot(), NOW).unwrap_err();
    assert_eq!(refused, NotSealed::NoKey);
    let mixed = Answer::default().slot().with(answer.entry(), u64::MAX);
    assert_eq!(plain.seal(&DIGEST, &mixed, NOW).unwrap_err(), NotSealed::NoKey);
    plain.apply(compress(Compression::Off), Some(&ring(&["a"])));
    let value = sealed(&plain, &answer.slot());
    let clear = |text: &[u8]| value.windows(text.len()).any(|window| window == text);
    for text in ["hello", "tenant", "hub.local", "accept", "model", "etag"] {
        assert!(!clear(text.as_bytes()), "{text}");
    }
    let opened = plain.open(&DIGEST, &value, NOW).unwrap();
    assert!(opened.variants().all(|entry| entry.sensitive()));
    plain.apply(compress(Compression::Off), None);
    assert_eq!(
        plain.seal(&DIGEST, &answer.slot(), NOW).unwrap_err(),
        NotSealed::NoKey
    );
}

#[test]
fn text_is_compressed_where_it_pays() {
    let words = "data: {\"choices\": [{\"delta\": {\"content\": \" word\"}}]}\n\n".repeat(200);
    let noise: Vec<u8> = (0..200_u8).flat_map(|n| *blake3::hash(&[n]).as_bytes()).collect();
    let shrinks = |algorithm, content_type, coding: Option<&str>, body: &[u8]| {
        let mut headers = vec![("content-type", content_type)];
        headers.extend(coding.map(|coding| ("content-encoding", coding)));
        let answer = Answer {
            headers: &headers,
            body,
            ..Answer::default()
        };
        let codec = codec(algorithm, None);
        let sealed = codec.seal(&DIGEST, &answer.slot(), NOW).unwrap();
        sealed.value.len() < sealed.raw
    };
    for algorithm in [Compression::Zstd, Compression::Lz4] {
        for content_type in [
            "text/event-stream",
            "Text/HTML; charset=utf-8",
            "application/json",
            "application/problem+json",
            "image/svg+xml",
        ] {
            assert!(
                shrinks(algorithm, content_type, None, words.as_bytes()),
                "{content_type}"
            );
        }
        for content_type in ["image/png", "application/octet-stream", "", "tex"] {
            assert!(
                !shrinks(algorithm, content_type, None, words.as_bytes()),
                "{content_type}"
            );
        }
        assert!(
            !shrinks(algorithm, "text/plain", Some("gzip"), words.as_bytes()),
            "coded"
        );
        assert!(
            !shrinks(algorithm, "text/plain", None, &words.as_bytes()[..1023]),
            "small"
        );
        assert!(!shrinks(algorithm, "text/plain", None, &noise), "saves nothing");
        assert!(
            !shrinks(algorithm, "text/plain", None, &[b' '; 500_000]),
            "would not be decompressed again"
        );
    }
    assert!(!shrinks(Compression::Off, "text/plain", None, words.as_bytes()));
}
