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
    Life::fresh(Timestamp::from_secs(0), Duration::from_secs(60))
}

/// An entry with this life.
pub(in crate::cache) fn entry_with_life(label: &str, life: Life) -> Arc<Entry> {
    let entry = entry(label, &[], 0);
    entry.refreshed(Refreshed {
        full_key: entry.full_key(),
        tags: &[],
        nominated: entry.nominated().clone(),
        headers: &HeaderMap::new(),
        life,
        moment: Moment::default(),
        public: false,
        stored_at: Timestamp::from_secs(1),
        fetch_time: Duration::ZERO,
    })
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

/// `entry` as it is after a confirmation at `stored_at` that changes nothing but its life and its moment.
pub(in crate::cache) fn refreshed_at(
    entry: &Entry,
    life: Life,
    moment: Moment,
    stored_at: Timestamp,
) -> Arc<Entry> {
    entry.refreshed(Refreshed {
        full_key: entry.full_key(),
        tags: &entry.tags().collect::<Vec<_>>(),
        nominated: entry.nominated().clone(),
        headers: &entry.headers(),
        life,
        moment,
        public: entry.public(),
        stored_at,
        fetch_time: Duration::ZERO,
    })
}
