//! The variants of a response under one key.

use std::mem::size_of;
use std::sync::Arc;

use super::entry::{ARC_COUNTERS, Entry, heap_bytes};

/// Most variants under one key; a client that sends ever new values of a nominated header gains nothing.
pub const MAX_VARIANTS: usize = 16;

/// The variants under one digest, newest first. Immutable: a new variant makes a new slot.
///
/// Invariant: all variants have the same full key.
#[derive(Debug)]
pub struct Slot {
    newest: Arc<Entry>,
    /// Empty, and without an allocation, for the usual response without `Vary`.
    older: Vec<Arc<Entry>>,
    weight: u64,
}

/// What a slot has for a request.
#[derive(Clone, Debug)]
pub enum Selected {
    /// This variant.
    Found(Arc<Entry>),
    /// Only variants for other values of the nominated headers.
    OtherVariant,
    /// Nothing under this key.
    Empty,
}

impl Slot {
    /// A slot with one variant.
    pub fn new(entry: Arc<Entry>) -> Self {
        Self::of(entry, Vec::new())
    }

    /// A slot with these variants, newest first. None if there is none, there are more than [`MAX_VARIANTS`], or they are
    /// not what one slot can hold.
    pub(super) fn from_variants(variants: Vec<Arc<Entry>>) -> Option<Self> {
        let mut rest = variants.into_iter();
        let newest = rest.next()?;
        let older: Vec<_> = rest.collect();
        let mut before = vec![newest.nominated()];
        for variant in &older {
            if variant.full_key() != newest.full_key() || before.contains(&variant.nominated()) {
                return None;
            }
            before.push(variant.nominated());
        }
        (before.len() <= MAX_VARIANTS).then(|| Self::of(Arc::clone(&newest), older))
    }

    /// This slot with one more variant. It replaces the one with the same nominated values, or else the oldest when
    /// there are [`MAX_VARIANTS`] or their weights exceed `max_weight`.
    pub fn with(&self, entry: Arc<Entry>, max_weight: u64) -> Self {
        let mut weight = OVERHEAD + entry.weight();
        let older = self
            .variants()
            .filter(|variant| {
                // Under a digest that collides with another the newer key wins.
                variant.full_key() == entry.full_key() && variant.nominated() != entry.nominated()
            })
            .take(MAX_VARIANTS - 1)
            .take_while(|variant| {
                weight += OLDER_OVERHEAD + variant.weight();
                weight <= max_weight
            })
            .cloned()
            .collect();
        Self::of(entry, older)
    }

    /// Whether it has the variant that `entry` would replace from a later fill: fills that overlap may end in any
    /// order.
    pub fn is_newer_than(&self, entry: &Entry) -> bool {
        self.variants().any(|variant| {
            variant.stored_at() > entry.stored_at()
                && variant.full_key() == entry.full_key()
                && variant.nominated() == entry.nominated()
        })
    }

    /// The variants of both, of those with the same nominated values the newer one; bounded as [`Slot::with`] says.
    pub fn merged(&self, other: &Self, max_weight: u64) -> Self {
        let mut variants: Vec<&Arc<Entry>> = self.variants().chain(other.variants()).collect();
        // Stable: of equally old ones those of this slot come first, and are added last.
        variants.sort_by_key(|variant| variant.stored_at());
        variants.reverse();
        let mut kept: Vec<&Arc<Entry>> = Vec::new();
        for variant in variants {
            if !kept.iter().any(|newer| newer.nominated() == variant.nominated()) {
                kept.push(variant);
            }
        }
        let mut oldest_first = kept.into_iter().rev();
        let first = oldest_first.next().unwrap_or(&self.newest);
        oldest_first.fold(Self::new(Arc::clone(first)), |slot, variant| {
            slot.with(Arc::clone(variant), max_weight)
        })
    }

    /// The variants for which `keep` holds; none when nothing is left.
    pub fn filtered(&self, keep: impl Fn(&Entry) -> bool) -> Option<Self> {
        let mut kept = self.variants().filter(|variant| keep(variant)).cloned();
        let newest = kept.next()?;
        Some(Self::of(newest, kept.collect()))
    }

    /// This slot without the given entry; none when nothing is left.
    pub fn without(&self, entry: &Arc<Entry>) -> Option<Self> {
        self.filtered(|variant| !std::ptr::eq(variant, Arc::as_ptr(entry)))
    }

    /// The newest variant with this key for which `matches` holds (RFC 9111, section 4.1).
    pub fn select(&self, full_key: &[u8], matches: impl Fn(&Entry) -> bool) -> Selected {
        if self.newest.full_key() != full_key {
            return Selected::Empty;
        }
        match self.variants().find(|variant| matches(variant)) {
            Some(variant) => Selected::Found(Arc::clone(variant)),
            None => Selected::OtherVariant,
        }
    }

    /// The variants, newest first.
    pub fn variants(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// Bytes of memory it occupies with its variants.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    fn of(newest: Arc<Entry>, mut older: Vec<Arc<Entry>>) -> Self {
        older.shrink_to_fit();
        let weight = newest.weight()
            + older
                .iter()
                .map(|variant| OLDER_OVERHEAD + variant.weight())
                .sum::<u64>();
        Self {
            newest,
            older,
            weight: weight + OVERHEAD,
        }
    }
}

/// The slot itself.
const OVERHEAD: u64 = heap_bytes(ARC_COUNTERS + size_of::<Slot>()) as u64;

/// A pointer in the list of older variants, with the rounding of that list.
const OLDER_OVERHEAD: u64 = 2 * size_of::<usize>() as u64;

#[cfg(test)]
mod tests {
    use super::super::entry::sample;
    use super::super::purge::Moment;

    use super::*;
    use crate::clock::Timestamp;
    use http::header::ACCEPT_LANGUAGE;

    fn variant(language: &str, body: &[u8]) -> Arc<Entry> {
        let nominated = sample::nominated("accept-language", language);
        sample::entry_with("a:GET h/", &[], 0, nominated, body)
    }

    fn wants(language: &str) -> impl Fn(&Entry) -> bool + use<> {
        let language = http::HeaderValue::from_str(language).unwrap();
        let request: http::HeaderMap = [(ACCEPT_LANGUAGE, language)].into_iter().collect();
        move |entry| entry.nominated().matches(&request)
    }

    fn bodies(slot: &Slot) -> Vec<String> {
        slot.variants()
            .map(|v| String::from_utf8(v.body().to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn selection_tells_a_variant_from_another_and_from_nothing() {
        let slot = Slot::new(variant("de", b"hallo")).with(variant("en", b"hello"), u64::MAX);
        let key = b"a:GET h/";
        assert!(matches!(slot.select(key, wants("de")), Selected::Found(v) if v.body() == "hallo"));
        assert!(matches!(slot.select(key, wants("fr")), Selected::OtherVariant));
        assert!(matches!(
            slot.select(b"another key with this digest", wants("de")),
            Selected::Empty
        ));
    }

    #[test]
    fn the_newest_of_several_matching_variants_is_selected() {
        let slot = Slot::new(variant("de", b"old")).with(variant("en", b"new"), u64::MAX);
        assert!(matches!(slot.select(b"a:GET h/", |_| true), Selected::Found(v) if v.body() == "new"));
    }

    #[test]
    fn a_variant_replaces_the_one_with_the_same_nominated_values() {
        let slot = Slot::new(variant("de", b"1")).with(variant("en", b"2"), u64::MAX);
        assert_eq!(bodies(&slot.with(variant("de", b"3"), u64::MAX)), ["3", "2"]);
    }

    #[test]
    fn at_most_sixteen_variants_stay_and_the_oldest_goes() {
        let mut slot = Slot::new(variant("0", b"0"));
        for n in 1..100 {
            let n = n.to_string();
            slot = slot.with(variant(&n, n.as_bytes()), u64::MAX);
        }
        let expected: Vec<String> = (84..100).rev().map(|n| n.to_string()).collect();
        assert_eq!(bodies(&slot), expected);
    }

    #[test]
    fn the_oldest_variants_go_when_the_slot_becomes_too_heavy() {
        let big = vec![b'x'; 10_000];
        let slot = Slot::new(variant("1", &big)).with(variant("2", &big), u64::MAX);
        let slot = slot.with(variant("3", b"3"), 15_000);
        assert_eq!(slot.variants().count(), 2);
        assert!(slot.weight() <= 15_000);
    }

    #[test]
    fn merging_takes_the_newer_of_each_variant() {
        let at = |language: &str, body: &[u8], second| {
            let life = sample::life();
            let entry = variant(language, body);
            sample::refreshed_at(&entry, life, Moment::default(), Timestamp::from_secs(second))
        };
        let here = Slot::new(at("de", b"de 1", 1)).with(at("en", b"en 5", 5), u64::MAX);
        let there = Slot::new(at("de", b"de 3", 3)).with(at("en", b"en 2", 2), u64::MAX);
        let there = there.with(at("fr", b"fr 4", 4), u64::MAX);
        let expected = ["en 5", "fr 4", "de 3"];
        assert_eq!(bodies(&here.merged(&there, u64::MAX)), expected);
        assert_eq!(bodies(&there.merged(&here, u64::MAX)), expected);
    }

    #[test]
    fn a_colliding_key_replaces_everything() {
        let slot = Slot::new(variant("de", b"1")).with(sample::entry("b:GET h/", &[], 0), u64::MAX);
        assert_eq!(slot.variants().count(), 1);
        assert!(matches!(slot.select(b"a:GET h/", |_| true), Selected::Empty));
    }

    #[test]
    fn removing_a_variant_keeps_the_others() {
        let (one, two) = (variant("1", b"1"), variant("2", b"2"));
        let slot = Slot::new(Arc::clone(&one)).with(Arc::clone(&two), u64::MAX);
        let left = slot.without(&two).unwrap();
        assert_eq!(bodies(&left), ["1"]);
        assert_eq!(left.weight(), Slot::new(Arc::clone(&one)).weight());
        assert!(left.without(&one).is_none());
    }
}
