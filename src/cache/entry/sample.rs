//! Entries for the tests of the cache.

use super::*;

/// What a response nominates that varies on `name`, for a request with `value`.
pub(in crate::cache) fn nominated(name: &str, value: &str) -> Nominated {
    let mut response = HeaderMap::new();
    response.insert(http::header::VARY, HeaderValue::from_str(name).unwrap());
    let mut request = HeaderMap::new();
    request.insert(
        name.parse::<HeaderName>().unwrap(),
        HeaderValue::from_str(value).unwrap(),
    );
    Nominated::of(&response, &request).unwrap()
}

/// Fresh for a minute from the start of time.
pub(in crate::cache) fn life() -> Life {
    Life {
        generated_at: Timestamp::from_secs(0),
        fresh_for: Duration::from_secs(60),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        stale_if_disconnected: Duration::ZERO,
        must_revalidate: false,
        always_validate: false,
        adapted: None,
    }
}

/// An entry with this life.
pub(in crate::cache) fn entry_with_life(label: &str, life: Life) -> Arc<Entry> {
    entry(label, &[], 0).refreshed(
        &HeaderMap::new(),
        life,
        Moment::default(),
        Timestamp::from_secs(1),
        Duration::ZERO,
    )
}

/// An entry of the route named before the first colon of `label`, keyed by its label.
pub(in crate::cache) fn entry(label: &str, tags: &[&str], position: u64) -> Arc<Entry> {
    entry_with(label, tags, position, Nominated::default(), b"body")
}

/// The same with a nomination and a body.
pub(in crate::cache) fn entry_with(
    label: &str,
    tags: &[&str],
    position: u64,
    nominated: Nominated,
    body: &[u8],
) -> Arc<Entry> {
    Entry::build(NewEntry {
        full_key: label.as_bytes(),
        label,
        route: label.split(':').next().unwrap_or_default().into(),
        tenant: None,
        tags,
        nominated,
        status: StatusCode::OK,
        headers: &HeaderMap::new(),
        notes: Notes::default(),
        body: &[Bytes::copy_from_slice(body)],
        life: life(),
        moment: Moment::elsewhere(position),
        public: false,
        sensitive: false,
        stored_at: Timestamp::from_secs(1),
        fetch_time: Duration::ZERO,
    })
}
