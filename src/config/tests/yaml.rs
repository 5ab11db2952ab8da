//! Text to tree: positions, duplicates, bounds.

use crate::config::source::*;
use crate::config::tree::At;

#[test]
fn every_key_and_value_can_be_located() {
    let text = "a: 1\nb:\n  - x\n  - c: {d: e}\n";
    let source = parse(text).unwrap();
    let (b, c) = (At::ROOT.key("b"), 1);
    let second = b.index(c);
    let (inner, d) = (second.key("c"), "d");
    for (at, line, column) in [
        (&At::ROOT.key("a"), 1, 4),
        (&b, 2, 1),
        (&b.index(0), 3, 5),
        (&second, 4, 5),
        (&inner, 4, 5),
        (&inner.key(d), 4, 12),
    ] {
        let place = source.root.find(at);
        assert_eq!(
            locate(text, place.position),
            Position { line, column },
            "{}",
            place.path
        );
    }
}

#[test]
fn duplicates_are_reported_and_the_first_one_counts() {
    let text = "a: 1\nb: 2\na: 3\n";
    let source = parse(text).unwrap();
    let [duplicate] = source.duplicates.as_slice() else {
        panic!("{:?}", source.duplicates);
    };
    assert_eq!(duplicate.key, "a");
    assert_eq!(locate(text, duplicate.id), Position { line: 3, column: 1 });
    assert_eq!(locate(text, duplicate.first), Position { line: 1, column: 1 });
    assert_eq!(source.root.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn syntax_errors_have_a_position() {
    let error = parse("a: [1\nb: 2\n").unwrap_err();
    assert_eq!(error.position.line, 2, "{error:?}");
    let error = parse("a: !env X\n").unwrap_err();
    assert_eq!(error.message, "YAML tags (`!name`) are not read");
    assert_eq!(error.position, Position { line: 1, column: 4 });
    assert!(
        parse("a: 1\n---\nb: 2\n")
            .unwrap_err()
            .message
            .contains("second document")
    );
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused() {
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [alias.as_str(); 9].join(", ")
        ));
    }
    let error = parse(&bomb).unwrap_err();
    assert!(
        error.message.contains("more than 100000 keys and values"),
        "{error:?}"
    );
    assert!(
        parse(&"[".repeat(MAX_BYTES))
            .unwrap_err()
            .message
            .contains("brackets")
    );
    assert!(
        parse(&"- ".repeat(1000))
            .unwrap_err()
            .message
            .contains("recursion limit")
    );
    assert!(
        parse(&" ".repeat(MAX_BYTES + 1))
            .unwrap_err()
            .message
            .contains("larger than")
    );
    parse("a: &a [*a]\n").unwrap_err();
}

#[test]
fn brackets_on_many_lines_are_scanned_in_bounded_time() {
    parse(&"[\n".repeat(MAX_BYTES / 2)).unwrap_err();
}
