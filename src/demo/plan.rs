//! What the demo's clients ask: a mix of endpoints, with a few questions asked often and many asked seldom.

use bytes::Bytes;
use http::Method;

use super::endpoint::Endpoint;
use super::hub::MODELS;

/// Pages of the catalog that are asked for.
const CATALOG_PAGES: usize = 30;

/// Endpoints and their share of the traffic, in percent.
const MIX: [(Endpoint, usize); 9] = [
    (Endpoint::Catalog, 24),
    (Endpoint::Time, 6),
    (Endpoint::Slow, 8),
    (Endpoint::Me, 14),
    (Endpoint::Flaky, 8),
    (Endpoint::Chat, 16),
    (Endpoint::ChatStream, 4),
    (Endpoint::Embeddings, 12),
    (Endpoint::Models, 8),
];

/// Subjects of questions and texts, the popular ones first.
const SUBJECTS: [&str; 24] = [
    "the sky",
    "a cache",
    "rain",
    "tea",
    "the moon",
    "a bicycle",
    "bread",
    "glass",
    "the tides",
    "sleep",
    "a compass",
    "wool",
    "thunder",
    "ink",
    "a lighthouse",
    "salt",
    "echoes",
    "frost",
    "a kite",
    "moss",
    "copper",
    "fog",
    "honey",
    "an outrigger",
];

/// One request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) body: Bytes,
}

/// Chooses the next request of `user`.
pub(super) fn next(random: &mut Random, user: &str) -> Planned {
    let endpoint = pick(random);
    let get = |target: String| (Method::GET, target, String::new());
    let (method, target, body) = match endpoint {
        Endpoint::Catalog => get(format!("/api/models-catalog?page={}", random.zipf(CATALOG_PAGES))),
        Endpoint::Time => get("/api/time".to_owned()),
        Endpoint::Slow => get("/api/slow".to_owned()),
        Endpoint::Me => get("/api/me".to_owned()),
        Endpoint::Flaky => get("/api/flaky".to_owned()),
        Endpoint::Models => get(match random.below(MODELS.len() + 1) {
            0 => "/v1/models".to_owned(),
            number => format!("/v1/models/{}", MODELS.get(number - 1).unwrap_or(&"none")),
        }),
        Endpoint::Chat => post("/v1/chat/completions", chat(random, user)),
        Endpoint::ChatStream => post("/v1/chat/completions", chat_stream(random)),
        Endpoint::Embeddings => post("/v1/embeddings", embeddings(random)),
        Endpoint::Echo => get("/ws/echo".to_owned()),
    };
    Planned {
        endpoint,
        method,
        target,
        body: Bytes::from(body),
    }
}

fn post(path: &str, body: String) -> (Method, String, String) {
    (Method::POST, path.to_owned(), body)
}

fn pick(random: &mut Random) -> Endpoint {
    let mut left = random.below(MIX.iter().map(|(_, share)| share).sum());
    for (endpoint, share) in MIX {
        match left.checked_sub(share) {
            Some(rest) => left = rest,
            None => return endpoint,
        }
    }
    Endpoint::Time
}

/// A question; its members come in either order, and `user` differs, which does not make it another question.
fn chat(random: &mut Random, user: &str) -> String {
    let messages = format!(r#"[{{"role":"user","content":"What is {}?"}}]"#, subject(random));
    if random.below(2) == 0 {
        format!(
            r#"{{"model":"demo-small","messages":{messages},"user":"{user}-{}"}}"#,
            random.below(1000)
        )
    } else {
        format!(r#"{{"messages": {messages}, "model": "demo-small"}}"#)
    }
}

fn chat_stream(random: &mut Random) -> String {
    format!(
        r#"{{"model":"demo-large","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"What is {}?"}}]}}"#,
        subject(random)
    )
}

fn embeddings(random: &mut Random) -> String {
    format!(r#"{{"model":"demo-embed","input":"{}"}}"#, subject(random))
}

fn subject(random: &mut Random) -> &'static str {
    SUBJECTS
        .get(random.zipf(SUBJECTS.len()))
        .copied()
        .unwrap_or("nothing")
}

/// SplitMix64 (Steele, Lea and Flood 2014): the traffic of a demo needs variety, not secrecy, and is the same each time.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A sequence of its own for every seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// At least 0, below `bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// A rank below `ranks`, rank r as likely as 1 / (r + 1) (Zipf's law with exponent 1).
    fn zipf(&mut self, ranks: usize) -> usize {
        let weight = |rank: usize| 1.0 / (rank + 1) as f64;
        let mut left = self.unit() * (0..ranks).map(weight).sum::<f64>();
        for rank in 0..ranks {
            left -= weight(rank);
            if left < 0.0 {
                return rank;
            }
        }
        ranks.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_shares_are_percents() {
        assert_eq!(MIX.iter().map(|(_, share)| share).sum::<usize>(), 100);
    }

    #[test]
    fn popular_ranks_are_asked_more_often_and_all_are_asked() {
        let mut random = Random::new(1);
        let mut asked = BTreeMap::<usize, usize>::new();
        for _ in 0..10_000 {
            *asked.entry(random.zipf(10)).or_default() += 1;
        }
        assert_eq!(asked.len(), 10);
        // The harmonic number of 10 is 2.93: a share of 34 % for the first, 17 % for the second, 3.4 % for the last.
        assert!((3_200..3_600).contains(&asked[&0]), "{asked:?}");
        assert!((1_500..1_900).contains(&asked[&1]), "{asked:?}");
        assert!((250..450).contains(&asked[&9]), "{asked:?}");
    }

    #[test]
    fn every_share_of_the_mix_occurs_and_bodies_are_json() {
        let mut random = Random::new(2);
        let mut seen = BTreeMap::<Endpoint, usize>::new();
        for _ in 0..2_000 {
            let planned = next(&mut random, "ada");
            *seen.entry(planned.endpoint).or_default() += 1;
            assert_eq!(
                planned.method == Method::POST,
                !planned.body.is_empty(),
                "{planned:?}"
            );
            if !planned.body.is_empty() {
                serde_json::from_slice::<Value>(&planned.body).unwrap();
            }
        }
        assert_eq!(seen.len(), MIX.len());
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let (mut one, mut other) = (Random::new(3), Random::new(3));
        for _ in 0..100 {
            assert_eq!(next(&mut one, "ada"), next(&mut other, "ada"));
        }
    }
}
