//! Tests of entries.

use super::*;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK};

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ETAG, HeaderValue::from_static("\"one\""));
    headers.append(LINK, HeaderValue::from_static("</a>"));
    headers.append(LINK, HeaderValue::from_static("</b>"));
    headers.insert("x-model", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    headers.insert("x-empty", HeaderValue::from_static(""));
    headers
}

fn build(headers: &HeaderMap, body: &[Bytes]) -> Arc<Entry> {
    Entry::build(NewEntry {
        full_key: b"\0key\xff",
        label: "users:GET hub/v1/users?page=2",
        route: "users".into(),
        tenant: Some([3; 32]),
        tags: &["user", "", "list"],
        nominated: sample::nominated("accept", "text/html"),
        status: StatusCode::CREATED,
        headers,
        notes: Notes {
            pace: &[7, 8],
            usage: &[1, 2, 3, b'm'],
        },
        body,
        life: sample::life(),
        moment: Moment::elsewhere(7),
        public: true,
        sensitive: false,
        stored_at: Timestamp::from_secs(9),
        fetch_time: Duration::from_millis(3),
    })
}

#[test]
fn an_entry_gives_back_what_it_was_built_from() {
    let body = [
        Bytes::from_static(b"hel"),
        Bytes::new(),
        Bytes::from_static(b"lo"),
    ];
    let entry = build(&headers(), &body);
    assert_eq!(entry.full_key(), b"\0key\xff");
    assert_eq!(entry.label(), "users:GET hub/v1/users?page=2");
    assert_eq!(entry.tags().collect::<Vec<_>>(), ["user", "", "list"]);
    assert_eq!(entry.headers(), headers());
    assert_eq!(entry.body(), "hello");
    assert_eq!(entry.body_len(), 5);
    assert_eq!(entry.status(), StatusCode::CREATED);
    assert_eq!(
        (entry.position(), entry.stored_at()),
        (7, Timestamp::from_secs(9))
    );
    assert_eq!(
        (entry.route().as_ref(), entry.tenant()),
        ("users", Some(&[3; 32]))
    );
    assert_eq!(*entry.nominated(), sample::nominated("accept", "text/html"));
    assert!(entry.public());
    assert_eq!(
        (entry.pace(), &entry.shared_pace()[..]),
        (&[7, 8][..], &[7, 8][..])
    );
    assert!(!entry.is_event_stream());
    assert_eq!(entry.usage().unwrap().tokens.output, 2);
}

#[test]
fn headers_are_found_without_the_map() {
    let entry = build(&headers(), &[]);
    assert_eq!(entry.etag(), Some(b"\"one\"".as_slice()));
    assert_eq!(entry.last_modified(), None);
    assert_eq!(entry.header(&LINK), Some(b"</a>".as_slice()));
    assert_eq!(entry.header(&"x-empty".parse().unwrap()), Some(b"".as_slice()));
}

#[test]
fn values_and_body_are_slices_of_the_one_allocation() {
    let entry = build(&headers(), &[Bytes::from_static(b"hello")]);
    let inside = entry.bytes.as_ptr_range();
    assert!(inside.contains(&entry.body().as_ptr()));
    for value in entry.headers().values().filter(|value| !value.is_empty()) {
        assert!(inside.contains(&value.as_bytes().as_ptr()));
    }
}

#[test]
fn the_buffers_that_the_body_was_read_into_are_released() {
    let buffer = Bytes::from(vec![1; 64 * 1024]);
    let piece = buffer.slice(10..20);
    let entry = build(&HeaderMap::new(), std::slice::from_ref(&piece));
    drop(piece);
    assert!(buffer.is_unique());
    assert_eq!(entry.body_len(), 10);
}

#[test]
fn a_body_is_compared_piece_by_piece() {
    let entry = build(&headers(), &[Bytes::from_static(b"hello")]);
    let same = |pieces: &[&'static str]| {
        let pieces: Vec<Bytes> = pieces
            .iter()
            .map(|piece| Bytes::from_static(piece.as_bytes()))
            .collect();
        entry.has_body(&pieces)
    };
    assert!(same(&["hello"]) && same(&["he", "", "llo"]));
    assert!(!same(&[]) && !same(&["hell"]) && !same(&["hello", "!"]) && !same(&["he", "lo"]));
    assert!(build(&headers(), &[]).has_body(&[]));
}

#[test]
fn a_refreshed_entry_keeps_body_and_identity_and_forgets_purges() {
    let entry = build(&headers(), &[Bytes::from_static(b"hello")]);
    entry.count_hit();
    entry.note(Purged::Soft, 8);
    let mut merged = headers();
    merged.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
    let refreshed = entry.refreshed(Refreshed {
        full_key: entry.full_key(),
        nominated: entry.nominated().clone(),
        headers: &merged,
        tags: &["other"],
        life: sample::life(),
        moment: Moment::elsewhere(12),
        public: false,
        stored_at: Timestamp::from_secs(20),
        fetch_time: Duration::from_millis(1),
    });
    assert!(entry.public() && !refreshed.public());
    assert_eq!(
        (entry.fetch_time().as_millis(), refreshed.fetch_time().as_millis()),
        (3, 1)
    );
    assert_eq!(refreshed.body(), "hello");
    assert_eq!(
        (refreshed.pace(), refreshed.usage()),
        (entry.pace(), entry.usage())
    );
    assert_eq!(refreshed.headers(), merged);
    assert_eq!(refreshed.full_key(), entry.full_key());
    assert_eq!(refreshed.tags().collect::<Vec<_>>(), ["other"]);
    assert_eq!(refreshed.nominated(), entry.nominated());
    assert_eq!((refreshed.position(), refreshed.hits()), (12, 1));
    assert!(entry.soft_purged() && !refreshed.soft_purged());
}

#[test]
fn a_mark_is_never_taken_back() {
    let entry = build(&HeaderMap::new(), &[]);
    assert_eq!(entry.note(Purged::Hard, 9), Purged::Hard);
    assert_eq!(entry.note(Purged::No, 8), Purged::Hard);
    assert_eq!((entry.mark(), entry.checked()), (Purged::Hard, 9));
}

#[test]
fn rounding_follows_the_size_classes_of_the_allocator() {
    let rounded = [
        (0, 0),
        (1, 16),
        (128, 128),
        (129, 160),
        (257, 320),
        (1025, 1280),
        (1 << 20, 1 << 20),
    ];
    for (len, expected) in rounded {
        assert_eq!(heap_bytes(len), expected, "{len}");
    }
}

#[test]
fn weight_covers_every_allocation_of_an_entry() {
    let entry = build(&headers(), &[Bytes::from(vec![0; 1000])]);
    let nominated = "accept".len() + "text/html".len();
    let exact = entry.bytes.len() + ARC_COUNTERS + size_of::<Entry>() + nominated;
    let weight = usize::try_from(entry.weight()).unwrap();
    assert!(
        weight > exact && weight < exact + exact / 4 + 4 * 16 + SHARED_BYTES,
        "{weight} for {exact}"
    );
}

#[test]
fn debug_output_shows_no_contents() {
    let entry = build(&headers(), &[Bytes::from_static(b"hello")]);
    let shown = format!("{entry:?}");
    assert!(!shown.contains("hello") && !shown.contains("page=2") && !shown.contains("\"one"));
}
