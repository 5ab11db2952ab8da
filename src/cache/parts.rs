//! Stored parts of responses (RFC 9111, sections 3.3 and 3.4): where they are kept, what they answer, and how they grow
//! together.
//!
//! Invariant: a part lies under a key that no lookup of a whole response makes, and says of itself that it is a 206.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

use super::conditional;
use super::control::RequestControl;
use super::digest::KeyDigest;
use super::engine::{Cache, Fill, Lookup, Request};
use super::entry::Entry;
use super::key::Key;
use super::memory::Memory;
use super::policy::Stored;
use super::range::{Part, same_content};
use super::slot::{Selected, Slot};
use super::verdict::{MissReason, RefuseReason};
use crate::clock::Timestamp;

impl Cache {
    /// `found`, or a stored part that holds what the request asks for.
    pub(super) fn or_part(
        &self,
        slot: impl Fn(&Memory, &KeyDigest) -> Option<Arc<Slot>>,
        found: Lookup,
        request: &Request<'_>,
        control: &RequestControl,
        now: Timestamp,
    ) -> Lookup {
        let nothing = matches!(found, Lookup::Miss { stale: None, .. });
        let asks = *request.method == Method::GET && request.headers.contains_key(header::RANGE);
        let Some(memory) = self.memory.as_ref().filter(|_| nothing && asks) else {
            return found;
        };
        let key = request.key.of_part();
        let matches = |entry: &Entry| entry.nominated().matches(request.headers);
        let Some(entry) = slot(memory, key.primary()).and_then(|slot| selected(&slot, &key, matches)) else {
            return found;
        };
        // A purge names the key of the response.
        match self.use_of(entry, request.key.primary(), control, now) {
            Lookup::Fresh(entry) if part_answer(&entry, request.headers).is_some() => Lookup::Part(entry),
            _ => found,
        }
    }

    /// The stored part of the response with `key`, whatever it may be used for.
    pub fn stored_part(&self, key: &Key) -> Option<(KeyDigest, Arc<Slot>)> {
        let key = key.of_part();
        let slot = self.memory.as_ref()?.peek(key.primary())?;
        Some((*key.primary(), slot))
    }

    /// Stores the part of a response that `fill` has fetched. With the part that is stored already it becomes a larger
    /// one, or the whole response, if both are of the same content and nothing is missing between them.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn store_part(
        &self,
        fill: &Fill<'_>,
        part: &Part,
        body: &[Bytes],
        max: u64,
    ) -> Result<Arc<Entry>, RefuseReason> {
        let arrived: u64 = body.iter().map(|piece| piece.len() as u64).sum();
        if arrived != part.length() {
            return Err(RefuseReason::Malformed);
        }
        let key = fill.key.of_part();
        let old = self
            .stored_part(fill.key)
            .and_then(|(_, slot)| selected(&slot, &key, |entry| *entry.nominated() == fill.nominated))
            .filter(|old| self.is_usable(old, fill));
        let joined = old.and_then(|old| {
            let headers = old.headers();
            let held = Part::of(&headers)?;
            let whole = held.joined(part).filter(|whole| whole.length() <= max)?;
            same_content(&headers, fill.headers).then_some((old, held, whole, headers))
        });
        let Some((old, held, whole, headers)) = joined else {
            let (mut headers, body) = (fill.headers.clone(), body.to_vec());
            headers.remove(header::CONTENT_LENGTH);
            return self.put_part(fill, part, headers, &body);
        };
        // RFC 9111, section 3.4: the fields of the newer response replace those of the older.
        let mut headers = conditional::merge_not_modified(&headers, fill.headers);
        headers.remove(header::CONTENT_LENGTH);
        let body = spliced(&held, old.body(), part, body);
        if !whole.is_whole() {
            return self.put_part(fill, &whole, headers, &body);
        }
        headers.remove(header::CONTENT_RANGE);
        let stored = Stored {
            // Everyone may have it only if everyone may have each part.
            public: fill.stored.public && old.public(),
            ..fill.stored.clone()
        };
        let entry = self.store(
            &Fill {
                stored: &stored,
                status: StatusCode::OK,
                headers: &headers,
                nominated: fill.nominated.clone(),
                ..*fill
            },
            &body,
        )?;
        self.remove(fill.key, &old);
        Ok(entry)
    }

    fn put_part(
        &self,
        fill: &Fill<'_>,
        part: &Part,
        mut headers: HeaderMap,
        body: &[Bytes],
    ) -> Result<Arc<Entry>, RefuseReason> {
        headers.insert(header::CONTENT_RANGE, part.content_range());
        self.store(
            &Fill {
                key: &fill.key.of_part(),
                status: StatusCode::PARTIAL_CONTENT,
                headers: &headers,
                nominated: fill.nominated.clone(),
                ..*fill
            },
            body,
        )
    }

    /// Whether a stored part may become part of something new: nothing has been said against it since.
    fn is_usable(&self, part: &Arc<Entry>, fill: &Fill<'_>) -> bool {
        let control = RequestControl::default();
        let lookup = self.use_of(Arc::clone(part), fill.key.primary(), &control, fill.began);
        // A stale part is as good: the new response has confirmed its content.
        matches!(
            lookup,
            Lookup::Fresh(_)
                | Lookup::Refresh(_)
                | Lookup::Miss {
                    reason: MissReason::Stale,
                    ..
                }
        )
    }
}

/// The spans that a stored part gives as the answer to a request with these fields, and the part; none if it does not
/// hold all of them.
pub fn part_answer(entry: &Entry, request: &HeaderMap) -> Option<(Part, Vec<std::ops::Range<u64>>)> {
    let headers = entry.headers();
    let part = Part::of(&headers)?;
    let spans = part.answers(request, &headers)?;
    (entry.status() == StatusCode::PARTIAL_CONTENT).then_some((part, spans))
}

fn selected(slot: &Slot, key: &Key, matches: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
    match slot.select(key.full(false), matches) {
        Selected::Found(entry) => Some(entry),
        Selected::OtherVariant | Selected::Empty => None,
    }
}

/// The octets of both parts, which touch; where they overlap, those that came last.
fn spliced(held: &Part, body: Bytes, part: &Part, new: &[Bytes]) -> Vec<Bytes> {
    let at = |octet: u64| {
        let offset = octet.clamp(held.span.start, held.span.end) - held.span.start;
        usize::try_from(offset).unwrap_or(usize::MAX).min(body.len())
    };
    let mut pieces = vec![body.slice(..at(part.span.start))];
    pieces.extend_from_slice(new);
    pieces.push(body.slice(at(part.span.end)..));
    pieces
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::entry::{Notes, sample};
    use crate::cache::fixture::{headers, route, rules};
    use crate::cache::key::{KeyParts, Partition};
    use crate::cache::purge::{Mode, PurgeLog, Rules, Selector};
    use crate::clock::Clock;
    use crate::config;

    const NOW: Timestamp = Timestamp::from_secs(10);

    fn part(text: &str) -> Part {
        Part::of(&headers(&[("content-range", &format!("bytes {text}"))])).unwrap()
    }

    #[test]
    fn parts_are_spliced_in_order_and_the_newer_octets_count() {
        let table = [
            ("0-4/10", "01234", "5-9/10", "56789", "0123456789"),
            ("5-9/10", "56789", "0-4/10", "01234", "0123456789"),
            ("0-9/10", "0123456789", "3-4/10", "xy", "012xy56789"),
            ("3-5/10", "345", "2-7/10", "abcdef", "abcdef"),
        ];
        for (held, body, new, octets, expected) in table {
            let pieces = spliced(
                &part(held),
                Bytes::from_static(body.as_bytes()),
                &part(new),
                &[octets.into()],
            );
            assert_eq!(pieces.concat(), expected.as_bytes(), "{held} {new}");
        }
    }

    struct Stage {
        cache: Cache,
        route: config::Route,
        key: Key,
    }

    impl Stage {
        fn new() -> Self {
            let clock = Clock::manual(NOW);
            let levels = config::Cache {
                memory: Some(config::MemoryLevel {
                    name: "l1".into(),
                    capacity: 1 << 20,
                    policy: config::EvictionPolicy::ClockPro,
                    max_object: 1 << 16,
                }),
                lower: Vec::new(),
                compress: config::Compress {
                    algorithm: config::Compression::Off,
                    min_size: 0,
                },
                keyrings: Default::default(),
            };
            let cache = Cache::new(
                &levels,
                PurgeLog::open(None, clock.clone(), Rules::alone(Duration::from_secs(60))).0,
                clock,
            );
            let route = route(rules());
            let none = HeaderMap::new();
            let parts = KeyParts {
                route: &route,
                method: &Method::GET,
                scheme: "http",
                authority: "h",
                path: "/a",
                query: None,
                headers: &none,
                body: None,
            };
            let key = Key::build(&parts, Partition::None, false);
            Self { cache, route, key }
        }

        fn store(&self, range: &str, etag: &str, body: &str) -> Result<Arc<Entry>, RefuseReason> {
            let none = HeaderMap::new();
            let fields = headers(&[("content-range", &format!("bytes {range}")), ("etag", etag)]);
            let stored = Stored {
                life: sample::life(),
                public: false,
                strip: Vec::new(),
                adaptive: None,
            };
            let fill = Fill {
                route: &self.route,
                key: &self.key,
                tenant: None,
                asked: &none,
                asked_body: b"",
                status: StatusCode::PARTIAL_CONTENT,
                headers: &fields,
                notes: Notes::default(),
                nominated: Default::default(),
                stored: &stored,
                previous: None,
                moment: self.cache.purges.moment(),
                began: NOW,
                fetch_time: Duration::ZERO,
            };
            let part = Part::of(&fields).unwrap();
            self.cache
                .store_part(&fill, &part, &[Bytes::copy_from_slice(body.as_bytes())], 1 << 16)
        }

        fn look(&self, fields: &[(&str, &str)]) -> Lookup {
            let request = Request {
                key: &self.key,
                method: &Method::GET,
                headers: &headers(fields),
            };
            self.cache.lookup(&request, &RequestControl::default(), NOW)
        }

        fn holds(&self, range: &str) -> bool {
            matches!(self.look(&[("range", range)]), Lookup::Part(_))
        }

        fn whole(&self) -> Option<Bytes> {
            match self.look(&[]) {
                Lookup::Fresh(entry) => Some(entry.body()),
                _ => None,
            }
        }
    }

    #[test]
    fn a_part_answers_ranges_within_it_and_is_never_the_whole() {
        let stage = Stage::new();
        stage.store("2-5/10", "\"a\"", "2345").unwrap();
        assert!(stage.holds("bytes=2-5") && stage.holds("bytes=3-3"));
        assert!(!stage.holds("bytes=2-6") && !stage.holds("bytes=-1") && !stage.holds("bytes=2-"));
        assert_eq!(stage.whole(), None);
    }

    #[test]
    fn all_of_it_in_one_part_is_still_a_part() {
        let stage = Stage::new();
        stage.store("0-9/10", "\"a\"", "0123456789").unwrap();
        assert!(stage.holds("bytes=0-"));
        assert_eq!(stage.whole(), None);
    }

    #[test]
    fn parts_of_the_same_content_become_the_whole() {
        let stage = Stage::new();
        stage.store("0-4/10", "\"a\"", "01234").unwrap();
        stage.store("5-6/10", "\"a\"", "56").unwrap();
        assert!(stage.holds("bytes=3-6") && stage.whole().is_none());
        let entry = stage.store("7-9/10", "\"a\"", "789").unwrap();
        assert_eq!(entry.status(), StatusCode::OK);
        assert_eq!(entry.header(&header::CONTENT_RANGE), None);
        assert_eq!(stage.whole().unwrap(), "0123456789");
        assert!(stage.cache.stored_part(&stage.key).is_none(), "the part is gone");
    }

    #[test]
    fn parts_of_other_content_replace_and_never_mix() {
        for (first, second) in [("\"a\"", "\"b\""), ("W/\"a\"", "W/\"a\"")] {
            let stage = Stage::new();
            stage.store("0-4/10", first, "01234").unwrap();
            stage.store("5-9/10", second, "56789").unwrap();
            assert!(stage.whole().is_none());
            assert!(!stage.holds("bytes=0-4") && stage.holds("bytes=5-9"));
        }
    }

    #[test]
    fn a_part_of_another_length_than_it_says_is_not_kept() {
        let stage = Stage::new();
        assert_eq!(
            stage.store("0-5/10", "\"a\"", "01234").err(),
            Some(RefuseReason::Malformed)
        );
        assert!(!stage.holds("bytes=0-0"));
    }

    #[test]
    fn what_was_purged_is_neither_served_nor_completed() {
        let stage = Stage::new();
        stage.store("0-4/10", "\"a\"", "01234").unwrap();
        let selector = Selector::Key(*stage.key.primary());
        stage.cache.purges.append(vec![selector], Mode::Hard).unwrap();
        assert!(!stage.holds("bytes=0-0"));
        stage.store("5-9/10", "\"a\"", "56789").unwrap();
        assert!(stage.whole().is_none() && stage.holds("bytes=5-9"));
    }
}
