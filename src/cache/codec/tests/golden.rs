//! Values as former builds wrote them: a change of the format that keeps its version is found here.

use super::fixture::*;

/// One value a line: which codec, and the value in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

/// What each codec is called in the file.
const NAMES: [&str; 6] = ["off", "off+key", "zstd", "zstd+key", "lz4", "lz4+key"];

/// Two variants with bodies that are worth compressing.
fn slot() -> Slot {
    let body = "{\"word\": \"pulse\"},".repeat(70);
    let older = Answer {
        body: body.as_bytes(),
        language: "en",
        ..Answer::default()
    };
    let newer = Answer {
        body: &body.as_bytes()[1..],
        sensitive: false,
        ..Answer::default()
    };
    older.slot().with(newer.entry(), u64::MAX)
}

#[test]
fn values_of_this_version_of_the_format_stay_readable() {
    let lines: Vec<_> = GOLDEN.lines().filter_map(|line| line.split_once(' ')).collect();
    let written = || {
        let line =
            |(codec, name): (Codec, &str)| format!("{name} {}\n", hex::encode(sealed(&codec, &slot())));
        codecs().into_iter().zip(NAMES).map(line).collect::<String>()
    };
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, NAMES, "what this build writes:\n{}", written());
    for (codec, (name, value)) in codecs().into_iter().zip(lines) {
        let value = Bytes::from(hex::decode(value).unwrap());
        let opened = codec.open(&DIGEST, &value, NOW);
        let opened = opened.unwrap_or_else(|refused| panic!("{name}: {refused}; raise `VERSION`"));
        assert_eq!(slot_facts(&opened), slot_facts(&slot()), "{name}");
    }
    let (_, first) = GOLDEN.lines().next().unwrap().split_once(' ').unwrap();
    let ours = sealed(&codecs()[0], &slot());
    assert_eq!(hex::encode(ours), first, "the layout changed: raise `VERSION`");
}
