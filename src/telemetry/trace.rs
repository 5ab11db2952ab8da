//! W3C Trace Context: reading, continuing and writing `traceparent`; ids; head sampling.
//!
//! `tracestate` needs nothing here: the proxy passes it on untouched, or drops it when there is no valid parent.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::record::TraceContext;

/// The header field of the trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const TRACEPARENT_LINE_START: &[u8] = b"traceparent: ";

/// What a caller's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Trace id, not all zero.
    pub trace_id: [u8; 16],
    /// The caller's span id, not all zero.
    pub parent_id: [u8; 8],
    /// The `sampled` flag.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses a value as W3C Trace Context, section 3.2, says: lower-case hex only, version `ff` and zero ids are
    /// invalid, version 00 has exactly four fields, a later version may have more.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_at_checked(2)?;
        let [version] = lower_hex::<1>(version)?;
        let (fields, more) = rest.split_at_checked(53)?;
        let more_is_fine = more.is_empty() || (version != 0 && more.starts_with(b"-"));
        if version == 0xff || !more_is_fine {
            return None;
        }
        let (trace_id, fields) = fields.strip_prefix(b"-")?.split_at_checked(32)?;
        let (parent_id, flags) = fields.strip_prefix(b"-")?.split_at_checked(16)?;
        let trace_id = lower_hex::<16>(trace_id)?;
        let parent_id = lower_hex::<8>(parent_id)?;
        let [flags] = lower_hex::<1>(flags.strip_prefix(b"-")?)?;
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self {
            trace_id,
            parent_id,
            sampled: flags & 1 == 1,
        })
    }

    /// The caller's context; none when there is no field, a malformed one, or more than one.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }
}

impl TraceContext {
    /// Continues the caller's trace and follows its decision, or begins a trace that `sampler` decides.
    pub fn continue_or_begin(headers: &HeaderMap, sampler: Sampler, ids: &IdSource) -> Self {
        match TraceParent::from_headers(headers) {
            Some(caller) => Self {
                trace_id: caller.trace_id,
                parent_id: Some(caller.parent_id),
                span_id: ids.span_id(),
                sampled: caller.sampled,
            },
            None => {
                let trace_id = ids.trace_id();
                Self {
                    trace_id,
                    parent_id: None,
                    span_id: ids.span_id(),
                    sampled: sampler.keeps(trace_id),
                }
            }
        }
    }

    /// The `traceparent` for a request that `span_id` sends on.
    pub fn traceparent(&self, span_id: [u8; 8]) -> HeaderValue {
        let line = self.traceparent_line(span_id);
        let value = line.strip_prefix(TRACEPARENT_LINE_START).unwrap_or_default();
        HeaderValue::from_bytes(value.trim_ascii_end()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The same as a line of HTTP/1.1.
    pub fn traceparent_line(&self, span_id: [u8; 8]) -> [u8; 70] {
        const VALUE: usize = TRACEPARENT_LINE_START.len();
        let mut line = *b"traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n";
        write_hex(&mut line, VALUE + 3, &self.trace_id);
        write_hex(&mut line, VALUE + 36, &span_id);
        write_hex(&mut line, VALUE + 53, &[u8::from(self.sampled)]);
        line
    }

    /// The trace id as it is shown: 32 hex digits.
    pub fn trace_id_hex(&self) -> String {
        hex::encode(self.trace_id)
    }
}

fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let lower = digits
        .iter()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    (lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

fn write_hex(value: &mut [u8], at: usize, bytes: &[u8]) {
    let digits = value.get_mut(at..at + 2 * bytes.len()).unwrap_or_default();
    // Every caller's room fits its bytes; a misfit would leave the zeros of the template.
    hex::encode_to_slice(bytes, digits).unwrap_or_default();
}

/// Keeps a share of what it is asked about, by comparing random bits with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    threshold: u64,
}

impl Sampler {
    /// Keeps nothing.
    pub const NEVER: Self = Self { threshold: 0 };

    /// Keeps `share` of everything, 0 to 1.
    pub fn new(share: f64) -> Self {
        // 63 bits, so that a share of 1 is a threshold above every value.
        Self {
            threshold: (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64,
        }
    }

    /// Whether a trace is kept. The decision is a function of the trace id, as in OpenTelemetry's `TraceIdRatioBased`:
    /// proxies in a row that use the same share agree.
    pub fn keeps(self, trace_id: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace_id;
        self.keeps_random([a, b, c, d, e, f, g, h])
    }

    /// Whether something is kept that `random` was drawn for.
    pub fn keeps_random(self, random: [u8; 8]) -> bool {
        u64::from_be_bytes(random) >> 1 < self.threshold
    }
}

/// Makes trace and span ids: SplitMix64 (Steele, Lea, Flood 2014) over a randomly seeded counter, without locks.
///
/// Ids are unique, not secret. One source per worker keeps the counter on one core.
#[derive(Debug)]
pub struct IdSource {
    counter: AtomicU64,
    /// Makes the second half of a trace id independent between sources.
    key: u64,
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl IdSource {
    /// A source seeded by the system's random generator, through the keys that the standard library hashes by: the
    /// generator of the crypto library gathers entropy of its own first, which takes 40 ms of every start.
    pub fn new() -> Self {
        let random = RandomState::new();
        Self::from_seed(random.hash_one(0), random.hash_one(1))
    }

    /// A source with a known sequence, for tests.
    pub const fn from_seed(counter: u64, key: u64) -> Self {
        Self {
            counter: AtomicU64::new(counter),
            key,
        }
    }

    /// A trace id, never all zero.
    pub fn trace_id(&self) -> [u8; 16] {
        let state = self.advance();
        let mut id = [[0; 8]; 2];
        id[0] = (mix(state) | 1).to_be_bytes();
        id[1] = mix(state ^ self.key).to_be_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(id.as_flattened());
        bytes
    }

    /// A span id, never all zero.
    pub fn span_id(&self) -> [u8; 8] {
        loop {
            let id = mix(self.advance());
            if id != 0 {
                return id.to_be_bytes();
            }
        }
    }

    /// A number above 0 and at most 1, evenly spread.
    pub fn uniform(&self) -> f64 {
        // 53 bits, as many as a float holds.
        ((mix(self.advance()) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn advance(&self) -> u64 {
        const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        self.counter
            .fetch_add(GOLDEN_GAMMA, Ordering::Relaxed)
            .wrapping_add(GOLDEN_GAMMA)
    }
}

const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn traceparent_is_read_as_the_specification_says() {
        let zero_trace = "0".repeat(32);
        let table = [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-01-extra"), None),
            (
                format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be"),
                Some(true),
            ),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01.later"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{zero_trace}-{SPAN}-01"), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (String::new(), None),
        ];
        for (value, sampled) in table {
            let parsed = TraceParent::parse(value.as_bytes());
            assert_eq!(parsed.map(|parent| parent.sampled), sampled, "{value}");
        }
    }

    #[test]
    fn a_callers_trace_is_continued_with_its_decision() {
        let ids = IdSource::from_seed(1, 2);
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, format!("00-{TRACE}-{SPAN}-00").parse().unwrap());
        let context = TraceContext::continue_or_begin(&headers, Sampler::new(1.0), &ids);
        assert_eq!(context.trace_id_hex(), TRACE);
        assert_eq!(context.parent_id.map(hex::encode).as_deref(), Some(SPAN));
        assert!(!context.sampled);
        let sent = context.traceparent(context.span_id);
        let expected = format!("00-{TRACE}-{}-00", hex::encode(context.span_id));
        assert_eq!(sent.to_str().unwrap(), expected);
        headers.append(TRACEPARENT, format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
        let begun = TraceContext::continue_or_begin(&headers, Sampler::new(1.0), &ids);
        assert_eq!(begun.parent_id, None, "two fields are none");
        assert!(begun.sampled);
    }

    #[test]
    fn a_sampler_keeps_its_share() {
        let ids = IdSource::from_seed(7, 9);
        let kept = |share| {
            (0..100_000)
                .filter(|_| Sampler::new(share).keeps(ids.trace_id()))
                .count()
        };
        assert_eq!(kept(0.0), 0);
        assert_eq!(kept(1.0), 100_000);
        assert!((900..1_100).contains(&kept(0.01)));
        assert!(!Sampler::NEVER.keeps([0; 16]));
    }

    #[test]
    fn ids_differ_within_and_between_sources() {
        let (one, two) = (IdSource::from_seed(1, 2), IdSource::from_seed(1, 3));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(one.trace_id()));
            assert!(seen.insert(two.trace_id()));
        }
        assert_ne!(IdSource::new().span_id(), IdSource::new().span_id());
    }

    #[test]
    fn numbers_are_spread_evenly_above_zero_up_to_one() {
        let ids = IdSource::from_seed(1, 2);
        let drawn: Vec<f64> = (0..10_000).map(|_| ids.uniform()).collect();
        assert!(drawn.iter().all(|number| *number > 0.0 && *number <= 1.0));
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
