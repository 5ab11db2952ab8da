//! An entry as bytes, for the levels below memory.
//!
//! The bytes of variable length are written as they lie in memory, so that reading an entry is one copy of exactly its
//! size. Whoever changes their layout, or what is written here, changes the
//! [version](super::super::codec::VERSION) of the format as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};

use super::Entry;
use super::block::{Frames, HeaderLines};
use crate::cache::life::Life;
use crate::cache::number::{read_bytes, read_number, write_bytes, write_number};
use crate::cache::purge::Moment;
use crate::cache::stream;
use crate::cache::vary::Nominated;
use crate::clock::Timestamp;

const PUBLIC: u8 = 1;
const SENSITIVE: u8 = 1 << 1;
const MUST_REVALIDATE: u8 = 1 << 2;
const ALWAYS_VALIDATE: u8 = 1 << 3;
const TENANT: u8 = 1 << 4;
const ADAPTED: u8 = 1 << 5;
const KNOWN: u8 = (1 << 6) - 1;

/// The longest time that is read: longer ones are cut. RFC 9111, section 1.2.2, asks for 2^31 seconds.
const LONGEST: Duration = Duration::from_secs(1 << 32);

impl Entry {
    /// Appends everything but its hits and what is known of purges.
    pub(in crate::cache) fn write(&self, out: &mut Vec<u8>) {
        let life = &self.life;
        let flags = [
            (self.public, PUBLIC),
            (self.sensitive, SENSITIVE),
            (life.must_revalidate, MUST_REVALIDATE),
            (life.always_validate, ALWAYS_VALIDATE),
            (self.tenant.is_some(), TENANT),
            (life.adapted.is_some(), ADAPTED),
        ];
        out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        out.extend_from_slice(&self.status.as_u16().to_le_bytes());
        for number in [
            life.generated_at.as_micros(),
            self.stored_at.as_micros(),
            self.position(),
        ] {
            write_number(number, out);
        }
        for duration in self.durations() {
            write_number(duration.as_secs(), out);
            write_number(duration.subsec_nanos().into(), out);
        }
        out.extend_from_slice(self.tenant.as_ref().map_or(&[], |tenant| &tenant[..]));
        write_bytes(self.route.as_bytes(), out);
        self.nominated.write(out);
        for end in [
            self.label_at,
            self.tags_at,
            self.headers_at,
            self.notes_at,
            self.body_at,
        ] {
            write_number(end as u64, out);
        }
        write_bytes(&self.bytes, out);
    }

    /// Its durations in the order in which they are written.
    fn durations(&self) -> impl Iterator<Item = Duration> {
        let life = &self.life;
        [
            self.fetch_time,
            life.fresh_for,
            life.stale_while_revalidate,
            life.stale_if_error,
            life.stale_if_disconnected,
        ]
        .into_iter()
        .chain(life.adapted)
    }

    /// Takes off `rest` what [`Entry::write`] wrote; none if it did not. Nothing in the bytes is trusted: every entry that
    /// comes out is one that could have been built.
    pub(in crate::cache) fn read(rest: &mut &[u8]) -> Option<Arc<Self>> {
        let (flags, after) = rest.split_first()?;
        let (status, after) = after.split_first_chunk::<2>()?;
        *rest = after;
        let is_set = |flag| flags & flag != 0;
        let status = StatusCode::from_u16(u16::from_le_bytes(*status)).ok()?;
        let generated_at = Timestamp::from_micros(read_number(rest)?);
        let stored_at = Timestamp::from_micros(read_number(rest)?);
        let position = read_number(rest)?;
        let fetch_time = read_duration(rest)?;
        let life = Life {
            generated_at,
            fresh_for: read_duration(rest)?,
            stale_while_revalidate: read_duration(rest)?,
            stale_if_error: read_duration(rest)?,
            stale_if_disconnected: read_duration(rest)?,
            must_revalidate: is_set(MUST_REVALIDATE),
            always_validate: is_set(ALWAYS_VALIDATE),
            adapted: match is_set(ADAPTED) {
                true => Some(read_duration(rest)?),
                false => None,
            },
        };
        let tenant = match is_set(TENANT) {
            true => {
                let (tenant, after) = rest.split_first_chunk::<32>()?;
                *rest = after;
                Some(*tenant)
            }
            false => None,
        };
        let route = std::str::from_utf8(read_bytes(rest)?).ok()?;
        let nominated = Nominated::read(rest)?;
        let mut ends = [0; 5];
        for end in &mut ends {
            *end = usize::try_from(read_number(rest)?).ok()?;
        }
        let parts = Parts::read(read_bytes(rest)?, ends)?;
        if flags & !KNOWN != 0 {
            return None;
        }
        let [label_at, tags_at, headers_at, notes_at, body_at] = ends;
        Some(Arc::new(Self {
            bytes: Bytes::copy_from_slice(parts.bytes),
            label_at,
            tags_at,
            headers_at,
            notes_at,
            body_at,
            header_names: parts.header_names,
            nominated,
            route: route.into(),
            tenant,
            status,
            public: is_set(PUBLIC),
            sensitive: is_set(SENSITIVE),
            event_stream: parts.event_stream,
            life,
            moment: Moment::elsewhere(position),
            stored_at,
            fetch_time,
            hits: AtomicU64::new(0),
            // Nothing is known of it here.
            checked: AtomicU64::new(0),
            mark: AtomicU8::new(0),
        }))
    }
}

/// The bytes of variable length, found sound.
struct Parts<'a> {
    bytes: &'a [u8],
    header_names: usize,
    event_stream: bool,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8], ends: [usize; 5]) -> Option<Self> {
        let [label_at, tags_at, headers_at, notes_at, body_at] = ends;
        std::str::from_utf8(bytes.get(label_at..tags_at)?).ok()?;
        let mut tags = Frames(bytes.get(tags_at..headers_at)?);
        if !tags.by_ref().all(|tag| std::str::from_utf8(tag).is_ok()) || !tags.0.is_empty() {
            return None;
        }
        let mut header_names = 0;
        let mut content_type = None;
        let mut last: &[u8] = b"";
        let mut lines = HeaderLines(Frames(bytes.get(headers_at..notes_at)?));
        for (name, value) in lines.by_ref() {
            if !is_header_name(name) || !is_header_value(value) {
                return None;
            }
            if name == header::CONTENT_TYPE.as_str().as_bytes() {
                content_type.get_or_insert(value);
            }
            header_names += usize::from(name != last);
            last = name;
        }
        let mut notes = Frames(bytes.get(notes_at..body_at)?);
        let pieces = notes.by_ref().count();
        bytes.get(body_at..)?;
        (lines.0.0.is_empty() && notes.0.is_empty() && matches!(pieces, 0 | 2)).then_some(Self {
            bytes,
            header_names,
            event_stream: content_type.is_some_and(stream::has_essence),
        })
    }
}

fn read_duration(rest: &mut &[u8]) -> Option<Duration> {
    let (seconds, nanos) = (read_number(rest)?, read_number(rest)?);
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    // `new` panics where nanoseconds carry over the largest number of seconds; these cannot carry.
    Some(Duration::new(seconds, nanos).min(LONGEST))
}

fn is_header_name(name: &[u8]) -> bool {
    HeaderName::from_bytes(name).is_ok_and(|parsed| parsed.as_str().as_bytes() == name)
}

/// What a [`http::HeaderValue`] may hold.
fn is_header_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}
