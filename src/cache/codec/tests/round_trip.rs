//! What is sealed is opened, in all its parts.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::fixture::*;
use crate::cache::codec::NotSealed;
use crate::cache::entry::{Entry, NewEntry, Notes};
use crate::cache::life::Life;
use crate::cache::purge::Moment;
use crate::cache::slot::Slot;
use crate::cache::vary::Nominated;
use crate::clock::Timestamp;
use std::sync::Arc;
use std::time::Duration;

fn duration() -> impl Strategy<Value = Duration> {
    (0..1_u64 << 31, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn life() -> impl Strategy<Value = Life> {
    (
        (0..NOW.as_micros(), vec(duration(), 4)),
        (any::<bool>(), any::<bool>(), option::of(duration())),
    )
        .prop_map(
            |((generated_at, times), (must_revalidate, always_validate, adapted))| Life {
                generated_at: Timestamp::from_micros(generated_at),
                // Of use for a while yet.
                fresh_for: times[0] + Duration::from_secs(20),
                stale_while_revalidate: times[1],
                stale_if_error: times[2],
                stale_if_disconnected: times[3],
                must_revalidate,
                always_validate,
                adapted,
            },
        )
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("content-type".to_owned()),
        Just("content-encoding".to_owned()),
        Just("etag".to_owned()),
        "[a-z][a-z0-9-]{0,12}"
    ];
    let value = prop_oneof![
        Just("text/event-stream".to_owned()),
        Just("application/json".to_owned()),
        "[ -~\t]{0,40}"
    ];
    vec((name, value), 0..12).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(&value).unwrap(),
            );
        }
        headers
    })
}

/// What the answer to a request with these fields nominates.
fn nominated() -> impl Strategy<Value = Nominated> {
    btree_map("[a-z][a-z0-9-]{0,8}", option::of("[ -~]{0,20}"), 0..4).prop_map(|fields| {
        let mut asked = HeaderMap::new();
        let mut answer = HeaderMap::new();
        answer.insert("content-language", HeaderValue::from_static("de"));
        for (name, value) in fields {
            answer.append(http::header::VARY, HeaderValue::from_str(&name).unwrap());
            if let Some(value) = value {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                asked.append(name, HeaderValue::from_str(&value).unwrap());
            }
        }
        answer.append(http::header::VARY, HeaderValue::from_static("accept-language"));
        Nominated::of(&answer, &asked).unwrap()
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..3000),
        ("[a-z]{1,8}", 0..2000_usize).prop_map(|(word, times)| word.repeat(times).into_bytes()),
    ]
}

fn entry(full_key: Vec<u8>) -> impl Strategy<Value = Arc<Entry>> {
    let texts = ("[a-zé]{0,10}:GET h/.{0,20}", "[a-z]{1,8}", vec(".{0,12}", 0..5));
    let about = (
        option::of(any::<[u8; 32]>()),
        nominated(),
        100..1000_u16,
        headers(),
    );
    let times = (life(), any::<u64>(), 0..NOW.as_micros(), duration());
    let rest = (body(), vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20));
    let flags = (any::<bool>(), any::<bool>());
    (texts, about, times, rest, flags).prop_map(
        move |(
            (label, route, tags),
            (tenant, nominated, status, headers),
            (life, position, stored_at, fetch_time),
            (body, pace, usage),
            (public, sensitive),
        )| {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let (first, second) = body.split_at(body.len() / 2);
            Entry::build(NewEntry {
                full_key: &full_key,
                label: &label,
                route: route.into(),
                tenant,
                tags: &tags,
                nominated,
                status: StatusCode::from_u16(status).unwrap(),
                headers: &headers,
                notes: Notes {
                    pace: &pace,
                    usage: &usage,
                },
                body: &[Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)],
                life,
                moment: Moment::elsewhere(position),
                public,
                sensitive,
                stored_at: Timestamp::from_micros(stored_at),
                fetch_time,
            })
        },
    )
}

fn slot() -> impl Strategy<Value = Slot> {
    vec(any::<u8>(), 0..60)
        .prop_flat_map(|key| vec(entry(key), 1..5))
        .prop_map(|entries| {
            let mut entries = entries.into_iter();
            let first = Slot::new(entries.next().unwrap());
            entries.fold(first, |slot, entry| slot.with(entry, u64::MAX))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_part_of_every_entry_survives(slot in slot()) {
        for codec in codecs() {
            let sensitive = slot.variants().any(|entry| entry.sensitive());
            let sealed = match codec.seal(&DIGEST, &slot, NOW) {
                Err(NotSealed::NoKey) if sensitive && !codec.encrypts() => continue,
                sealed => sealed.unwrap(),
            };
            prop_assert_eq!(sealed.key, codec.level_key(&DIGEST));
            prop_assert!(sealed.value.len() <= codec.max_value());
            let opened = codec.open(&DIGEST, &sealed.value, NOW).unwrap();
            prop_assert_eq!(slot_facts(&opened), slot_facts(&slot));
        }
    }
}
