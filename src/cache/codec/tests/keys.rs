//! Values are opened by whoever has the key, under the key that they were sealed for.

use super::fixture::*;

#[test]
fn a_new_key_keeps_what_the_old_one_wrote() {
    let codec = codec(Compression::Zstd, Some(&ring(&["old"])));
    let (name, before) = (codec.level_key(&DIGEST), sealed(&codec, &two_variants()));
    codec.apply(compress(Compression::Zstd), Some(&ring(&["old", "new"])));
    assert_eq!(codec.level_key(&DIGEST), name, "it is still found");
    let opened = codec.open(&DIGEST, &before, NOW).unwrap();
    assert_eq!(slot_facts(&opened), slot_facts(&two_variants()));

    let after = sealed(&codec, &two_variants());
    let written_by = |value: &[u8], id: &[u8]| value[12..].starts_with(id);
    assert!(written_by(&before, b"old") && written_by(&after, b"new"));

    codec.apply(compress(Compression::Zstd), Some(&ring(&["new"])));
    codec.open(&DIGEST, &after, NOW).unwrap();
    let refused = refusal(&codec, before);
    assert_eq!(refused, Refused::UnknownKey);
    assert!(!refused.is_failure());
}

#[test]
fn another_key_by_the_same_name_is_unknown() {
    let value = sealed(&codec(Compression::Off, Some(&ring(&["a"]))), &two_variants());
    let mut other = ring(&["b"]);
    other.keys[0].id = "a".into();
    let refused = refusal(&codec(Compression::Off, Some(&other)), value);
    assert_eq!(refused, Refused::UnknownKey);
}

#[test]
fn another_index_secret_makes_other_names() {
    let (first, mut other) = (ring(&["a"]), ring(&["a"]));
    other.index = other.keys[0].secret.clone();
    let (first, other) = (
        codec(Compression::Off, Some(&first)),
        codec(Compression::Off, Some(&other)),
    );
    assert_ne!(first.level_key(&DIGEST), other.level_key(&DIGEST));
    let refused = refusal(&other, sealed(&first, &two_variants()));
    assert_eq!(refused, Refused::Checksum);
}

#[test]
fn a_level_that_encrypts_takes_nothing_that_is_not_encrypted() {
    let plain = codec(Compression::Off, None);
    let encrypting = codec(Compression::Off, Some(&ring(&["a"])));
    assert_eq!(
        refusal(&encrypting, sealed(&plain, &two_variants())),
        Refused::Checksum,
        "its name is not secret and does not fit"
    );
    assert_eq!(
        refusal(&plain, sealed(&encrypting, &two_variants())),
        Refused::Checksum
    );
    // Nor what somebody wrote who has learned the name.
    let seal = cipher::Seal::new(None);
    let key = encrypting.level_key(&DIGEST);
    let binding = Binding {
        key: &key,
        digest: &DIGEST,
    };
    let forged = seal.seal(&binding, Compression::Off, 1, b"x").unwrap();
    assert_eq!(refusal(&encrypting, forged), Refused::NotEncrypted);
}

#[test]
fn a_value_is_of_its_key_alone() {
    for codec in codecs() {
        let other = KeyDigest([8; 32]);
        assert_ne!(codec.level_key(&DIGEST), codec.level_key(&other));
        let own = sealed(&codec, &two_variants());
        let theirs = codec.seal(&other, &two_variants(), NOW).unwrap().value;
        assert_eq!(refusal(&codec, theirs), Refused::Checksum, "{codec:?}");
        assert_eq!(
            codec.open(&other, &own, NOW).unwrap_err(),
            Refused::Checksum,
            "{codec:?}"
        );
    }
}

#[test]
fn no_two_values_have_the_same_bytes_when_they_are_encrypted() {
    let codec = codec(Compression::Off, Some(&ring(&["a"])));
    let [first, second] = [(); 2].map(|()| sealed(&codec, &two_variants()));
    let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert_eq!(first.len(), second.len());
    assert!(same < first.len() / 8, "{same} of {}", first.len());
}

#[test]
fn nothing_of_a_key_is_shown() {
    let ring = ring(&["a"]);
    let codec = codec(Compression::Off, Some(&ring));
    let shown = format!("{codec:?} {ring:?}");
    let secret = hex::encode(&ring.keys[0].secret.reveal()[..4]);
    assert!(
        shown.contains("[redacted]") && !shown.contains(&secret),
        "{shown}"
    );
    assert!(!shown.contains(&format!("{:?}", &ring.index.reveal()[..4])[1..8]));
}
