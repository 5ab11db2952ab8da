//! Damaged, swapped, replayed and crafted values are refused.

use std::sync::Arc;

use super::fixture::*;
use crate::cache::control::RequestControl;
use crate::cache::engine::{Cache, Lookup};
use crate::cache::entry::sample;
use crate::cache::life::Life;
use crate::cache::purge::{Mode, Moment, PurgeLog, Rules, Selector};
use crate::cache::verdict::MissReason;
use crate::clock::Clock;
use crate::config;

#[test]
fn no_byte_can_be_changed_and_none_left_out_or_added() {
    for codec in codecs() {
        let value = sealed(&codec, &two_variants()).to_vec();
        for at in 0..value.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = value.clone();
                changed[at] ^= flip;
                let refused = refusal(&codec, changed);
                assert!(refused.is_failure(), "{at} of {codec:?}: {refused}");
            }
            let refused = refusal(&codec, value[..at].to_vec());
            assert!(refused.is_failure(), "{at} of {codec:?}: {refused}");
        }
        for more in [&b"\0"[..], b"more", &value] {
            let refused = refusal(&codec, [&value, more].concat());
            assert_eq!(refused, Refused::Checksum);
        }
    }
}

#[test]
fn texts_and_other_formats_are_named() {
    let codec = codec(Compression::Off, None);
    assert_eq!(refusal(&codec, ""), Refused::Truncated);
    assert_eq!(
        refusal(&codec, "a text that somebody else wrote"),
        Refused::Format
    );
    let mut value = sealed(&codec, &two_variants()).to_vec();
    value[4] = VERSION + 1;
    assert_eq!(refusal(&codec, value), Refused::Version);
}

/// A value with this body, sealed as if we had written it.
fn crafted(codec: &Codec, compression: Compression, payload: usize, body: &[u8]) -> Vec<u8> {
    let key = codec.level_key(&DIGEST);
    let binding = Binding {
        key: &key,
        digest: &DIGEST,
    };
    let settings = codec.settings.load();
    settings.seal.seal(&binding, compression, payload, body).unwrap()
}

#[test]
fn a_bomb_is_refused_before_it_takes_memory() {
    let codec = codec(Compression::Zstd, None);
    let zeros = vec![0; 1 << 20];
    let bombs = [
        (Compression::Zstd, zstd::bulk::compress(&zeros, 1).unwrap()),
        (Compression::Lz4, lz4_flex::block::compress(&zeros)),
    ];
    for (algorithm, bomb) in bombs {
        let open = |payload| refusal(&codec, crafted(&codec, algorithm, payload, &bomb));
        assert_eq!(open(usize::MAX), Refused::TooLarge);
        assert_eq!(open((2 << 20) + 1), Refused::TooLarge);
        assert_eq!(open(bomb.len() * MAX_RATIO + 1), Refused::Ratio);
        // It says that it is small, and is not.
        assert_eq!(open(bomb.len() * 50), Refused::Compression);
        assert_eq!(open(1), Refused::Compression);
    }
    // It says that it is large, and is not.
    let body = vec![b'x'; 100];
    for (algorithm, small) in [
        (Compression::Off, body.clone()),
        (Compression::Zstd, zstd::bulk::compress(&body, 1).unwrap()),
        (Compression::Lz4, lz4_flex::block::compress(&body)),
    ] {
        let value = crafted(&codec, algorithm, 101, &small);
        assert_eq!(refusal(&codec, value), Refused::Compression);
    }
    // A frame that tells 512 MiB, in as many bytes as make that credible.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x20];
    frame.resize(30_000, 0);
    let value = crafted(&codec, Compression::Zstd, 1 << 20, &frame);
    assert_eq!(refusal(&codec, value), Refused::Compression);
}

#[test]
fn what_is_sealed_but_no_slot_is_refused() {
    let codec = codec(Compression::Off, None);
    let value = sealed(&codec, &two_variants());
    let head = Head::read(&value).unwrap().0.bytes.len();
    let payload = &value[head..value.len() - head::TAG];
    let open = |payload: &[u8]| {
        let value = crafted(&codec, Compression::Off, payload.len(), payload);
        codec.open(&DIGEST, &value.into(), NOW)
    };
    open(payload).unwrap();
    assert_eq!(open(b"").unwrap_err(), Refused::Payload);
    assert_eq!(open(b"\0").unwrap_err(), Refused::Payload, "no variant");
    assert_eq!(open(&[payload, b"\0"].concat()).unwrap_err(), Refused::Payload);
    for end in 0..payload.len() {
        assert_eq!(open(&payload[..end]).unwrap_err(), Refused::Payload, "{end}");
    }
    let one = &payload[1..1 + (payload.len() - 1) / 2];
    let twice = [b"\x02", one, one].concat();
    assert_eq!(
        open(&twice).unwrap_err(),
        Refused::Payload,
        "twice the same variant"
    );
    let many = [&[17], one.repeat(17).as_slice()].concat();
    assert_eq!(open(&many).unwrap_err(), Refused::Payload);
}

#[test]
fn nothing_is_fresh_for_longer_because_of_another_clock() {
    let of = |generated_at, stored_at: Timestamp| {
        let life = Life {
            generated_at,
            ..Answer::default().life
        };
        let answer = Answer {
            life,
            ..Answer::default()
        };
        let entry = answer.entry();
        Slot::new(sample::refreshed_at(
            &entry,
            life,
            Moment::elsewhere(4),
            stored_at,
        ))
    };
    let codec = codec(Compression::Off, None);
    let latest = NOW.plus(MAX_SKEW);
    let later = latest.plus(Duration::from_micros(1));
    let opened = codec.open(&DIGEST, &sealed(&codec, &of(latest, latest)), NOW);
    let fresh_until = opened.unwrap().variants().next().unwrap().life().fresh_until();
    assert_eq!(fresh_until, NOW.plus(Duration::from_secs(60) + MAX_SKEW));
    for (generated_at, stored_at) in [
        (later, NOW),
        (NOW, later),
        (Timestamp::from_micros(u64::MAX), NOW),
    ] {
        let value = sealed(&codec, &of(generated_at, stored_at));
        assert_eq!(refusal(&codec, value), Refused::Future);
    }
}

#[test]
fn a_value_from_before_a_purge_is_found_to_be_purged() {
    let clock = Clock::manual(NOW);
    let (purges, _) = PurgeLog::open(None, clock.clone(), Rules::alone(Duration::from_secs(3600)));
    let levels = config::Cache {
        memory: None,
        lower: Vec::new(),
        compress: compress(Compression::Zstd),
        keyrings: std::collections::BTreeMap::new(),
    };
    let cache = Cache::new(&levels, purges, clock.clone());
    let fill = |cache: &Cache| {
        let answer = Answer {
            position: cache.purges.position(),
            ..Answer::default()
        };
        answer.slot()
    };
    let codec = codec(Compression::Zstd, Some(&ring(&["a"])));
    let use_of = |value: &Bytes| {
        let slot = codec.open(&DIGEST, value, NOW).unwrap();
        let entry = Arc::clone(slot.variants().next().unwrap());
        cache.use_of(entry, &DIGEST, &RequestControl::default(), NOW)
    };
    let before = sealed(&codec, &fill(&cache));
    assert!(matches!(use_of(&before), Lookup::Fresh(_)));
    let selectors = [
        Selector::Tag("model".into()),
        Selector::Tenant([9; 32]),
        Selector::Route("chat".into()),
        Selector::Key(DIGEST),
        Selector::All,
    ];
    for selector in selectors {
        let before = sealed(&codec, &fill(&cache));
        clock.advance(Duration::from_secs(1));
        cache.purge(vec![selector], Mode::Hard, false).unwrap();
        let reason = match use_of(&before) {
            Lookup::Miss { reason, stale: None } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason, MissReason::Purged);
        let after = sealed(&codec, &fill(&cache));
        assert!(matches!(use_of(&after), Lookup::Fresh(_)));
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// Changes a few places of `bytes`: values, order, length; sometimes with a part of `other`.
fn mutate(numbers: &mut Numbers, bytes: &mut Vec<u8>, other: &[u8]) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 17, 0x28, 4];
    for _ in 0..=numbers.below(4) {
        let (from, to) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
        let (from, to) = (from.min(to), from.max(to));
        match numbers.below(8) {
            0..3 if !bytes.is_empty() => bytes[from] ^= 1 << numbers.below(8),
            3 if !bytes.is_empty() => bytes[from] = TELLING[numbers.below(8)],
            4 => bytes.truncate(to),
            5 => drop(bytes.drain(from..to.min(from + 9))),
            6 => {
                let end = to.min(other.len());
                bytes.splice(from..to, other[from.min(end)..end].iter().copied());
            }
            _ => bytes.insert(from, numbers.below(256).to_le_bytes()[0]),
        }
    }
}

#[test]
fn a_hundred_thousand_mutations_are_no_wrong_answer() {
    let mut numbers = Numbers(1);
    let (codecs, slot, other) = (codecs(), two_variants(), Answer::default().slot());
    for codec in &codecs {
        let value = sealed(codec, &slot);
        let foreign = codec.seal(&KeyDigest([1; 32]), &other, NOW).unwrap().value;
        for _ in 0..10_000 {
            let mut mutant = value.to_vec();
            mutate(&mut numbers, &mut mutant, &foreign);
            if mutant != value {
                refusal(codec, mutant);
            }
        }
    }
    // Below the seal, where only somebody who can write our values comes.
    let codec = codec(Compression::Zstd, None);
    let value = sealed(&codecs[0], &slot);
    let head = Head::read(&value).unwrap().0.bytes.len();
    let payload = &value[head..value.len() - head::TAG];
    let mut opened = 0;
    for n in 0..40_000 {
        let mut mutant = payload.to_vec();
        let (algorithm, length) = match n % 4 {
            0 => {
                mutant = zstd::bulk::compress(payload, 1).unwrap();
                (Compression::Zstd, payload.len())
            }
            1 => {
                mutant = lz4_flex::block::compress(payload);
                (Compression::Lz4, payload.len())
            }
            _ => (Compression::Off, 0),
        };
        mutate(&mut numbers, &mut mutant, payload);
        let length = if length == 0 { mutant.len() } else { length };
        let value = crafted(&codec, algorithm, length, &mutant);
        if let Ok(slot) = codec.open(&DIGEST, &value.into(), NOW) {
            opened += 1;
            // Whatever it says: it can be used like any other.
            for entry in slot.variants() {
                assert_eq!(entry.headers().len(), entry.headers().iter().count());
                let _read = (facts(entry), entry.weight(), format!("{entry:?}"));
            }
        }
    }
    assert!(
        opened > 1_000,
        "{opened} mutants were slots, so that the test goes deep"
    );
}
