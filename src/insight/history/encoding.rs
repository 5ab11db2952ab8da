//! Samples as bytes: only what is not zero, numbers in LEB128, so that a quiet route costs little.
//!
//! A mask says which fields follow, in the order of the mask's bits. Histograms, registers and readings are lists:
//! their length, then the distance to the next number and the value. What cannot be read is left out, never trusted: a
//! file may have been changed by anybody.

use super::sample::{Gauge, Reading, Sample};
use crate::telemetry::record::CacheResult;
use crate::telemetry::tally::{BUCKETS, REGISTERS};

/// Whole numbers come first in the mask.
const WHOLE: usize = 7 + CacheResult::ALL.len();
const COST: usize = WHOLE;
const SAVED: usize = WHOLE + 1;
const LATENCY: usize = WHOLE + 2;
const PRINCIPALS: usize = WHOLE + 3;
const GAUGES: usize = WHOLE + 4;

/// The bytes of a sample.
pub(super) fn encode(sample: &Sample, with_principals: bool) -> Vec<u8> {
    let whole = whole(sample);
    let mut mask = 0_u64;
    let mut set = |bit: usize, is_set: bool| mask |= u64::from(is_set) << bit;
    for (bit, value) in whole.iter().enumerate() {
        set(bit, *value > 0);
    }
    let principals = || sample.principals.registers().filter(|_| with_principals);
    let gauges = || {
        (0_u64..)
            .zip(&sample.gauges)
            .filter(|(_, reading)| reading.count > 0)
    };
    set(COST, sample.cost > 0.0);
    set(SAVED, sample.saved > 0.0);
    set(LATENCY, sample.latency.buckets().next().is_some());
    set(PRINCIPALS, principals().next().is_some());
    set(GAUGES, gauges().next().is_some());
    let mut out = Vec::with_capacity(64);
    number(&mut out, mask);
    whole
        .iter()
        .filter(|value| **value > 0)
        .for_each(|value| number(&mut out, *value));
    for dollars in [sample.cost, sample.saved]
        .into_iter()
        .filter(|dollars| *dollars > 0.0)
    {
        out.extend_from_slice(&dollars.to_le_bytes());
    }
    let latency = || {
        sample
            .latency
            .buckets()
            .map(|(bucket, count)| (u64::from(bucket), count))
    };
    list(&mut out, latency, number);
    let ranks = || principals().map(|(register, rank)| (u64::from(register), rank));
    list(&mut out, ranks, |out, rank| out.push(rank));
    list(&mut out, gauges, |out, reading| {
        number(out, reading.count);
        out.extend_from_slice(&reading.sum.to_le_bytes());
        out.extend_from_slice(&reading.max.to_le_bytes());
    });
    out
}

fn whole(sample: &Sample) -> [u64; WHOLE] {
    let [hit, stale, revalidated, miss, collapsed, bypass, none] = sample.results;
    [
        sample.requests,
        sample.errors,
        hit,
        stale,
        revalidated,
        miss,
        collapsed,
        bypass,
        none,
        sample.bytes_in,
        sample.bytes_out,
        sample.tokens_upstream,
        sample.tokens_cache,
        sample.micros,
    ]
}

/// Writes a list, unless it is empty: then its bit in the mask says so.
fn list<V, I: Iterator<Item = (u64, V)>>(
    out: &mut Vec<u8>,
    items: impl Fn() -> I,
    mut write: impl FnMut(&mut Vec<u8>, V),
) {
    let count = items().count() as u64;
    if count > 0 {
        number(out, count);
    }
    let mut next = 0;
    for (at, value) in items() {
        number(out, at - next);
        next = at + 1;
        write(out, value);
    }
}

/// Adds the sample that `bytes` hold to `sum`. None if it is not one; then a part of it may have been added.
pub(super) fn merge(mut bytes: &[u8], sum: &mut Sample) -> Option<()> {
    let bytes = &mut bytes;
    let mask = read(bytes)?;
    let has = |bit: usize| mask & (1 << bit) != 0;
    let mut one = Sample::default();
    let mut whole = [0; WHOLE];
    for (bit, value) in whole.iter_mut().enumerate() {
        if has(bit) {
            *value = read(bytes)?;
        }
    }
    let [
        requests,
        errors,
        hit,
        stale,
        revalidated,
        miss,
        collapsed,
        bypass,
        none,
        rest @ ..,
    ] = whole;
    [one.requests, one.errors] = [requests, errors];
    one.results = [hit, stale, revalidated, miss, collapsed, bypass, none];
    [
        one.bytes_in,
        one.bytes_out,
        one.tokens_upstream,
        one.tokens_cache,
        one.micros,
    ] = rest;
    if has(COST) {
        one.cost = dollars(bytes)?;
    }
    if has(SAVED) {
        one.saved = dollars(bytes)?;
    }
    // Histograms and registers go straight into the sum: most of the time of a query is spent here.
    sum.merge(&one);
    if has(LATENCY) {
        each(bytes, BUCKETS, read, |bucket, count| {
            sum.latency.add(u8::try_from(bucket).ok()?, count);
            Some(())
        })?;
    }
    if has(PRINCIPALS) {
        each(bytes, REGISTERS, octet, |register, rank| {
            sum.principals.add(u16::try_from(register).ok()?, rank);
            Some(())
        })?;
    }
    if has(GAUGES) {
        each(bytes, Gauge::ALL.len(), reading, |gauge, reading| {
            sum.gauges.get_mut(gauge)?.merge(&reading);
            Some(())
        })?;
    }
    Some(())
}

/// Reads a list of at most `most` items, whose places are below that too.
fn each<V>(
    bytes: &mut &[u8],
    most: usize,
    value: fn(&mut &[u8]) -> Option<V>,
    mut then: impl FnMut(usize, V) -> Option<()>,
) -> Option<()> {
    let count = read(bytes)?;
    let mut next = 0_usize;
    for _ in 0..count {
        let at = next.checked_add(usize::try_from(read(bytes)?).ok()?)?;
        if at >= most {
            return None;
        }
        next = at + 1;
        then(at, value(bytes)?)?;
    }
    Some(())
}

fn reading(bytes: &mut &[u8]) -> Option<Reading> {
    let (count, sum, max) = (read(bytes)?, float(bytes)?, float(bytes)?);
    Some(Reading { count, sum, max })
}

fn dollars(bytes: &mut &[u8]) -> Option<f64> {
    float(bytes).filter(|dollars| *dollars >= 0.0)
}

/// A finite number.
fn float(bytes: &mut &[u8]) -> Option<f64> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*first)).filter(|number| number.is_finite())
}

fn octet(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// Writes a number in LEB128.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a number in LEB128.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let octet = octet(bytes)?;
        let part = u64::from(octet & 0x7f);
        number |= part
            .checked_shl(shift)
            .filter(|shifted| shifted >> shift == part)?;
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn samples()(
            numbers in prop::array::uniform14(prop_oneof![Just(0), any::<u64>()]),
            dollars in prop::array::uniform2(prop_oneof![Just(0.0), 0.0..1e9]),
            latency in prop::collection::vec((any::<u8>(), 1..u64::MAX), 0..20),
            registers in prop::collection::vec((0..1024_u16, 1..55_u8), 0..40),
            gauges in prop::collection::vec((0..13_usize, 1..100_u64, -1e9..1e9), 0..13),
        ) -> Sample {
            let mut sample = Sample::default();
            let [a, b, c, d, e, f, g, h, i, rest @ ..] = numbers;
            [sample.requests, sample.errors] = [a, b];
            sample.results = [c, d, e, f, g, h, i];
            [sample.bytes_in, sample.bytes_out, sample.tokens_upstream, sample.tokens_cache, sample.micros] = rest;
            [sample.cost, sample.saved] = dollars;
            latency.iter().for_each(|(bucket, count)| sample.latency.add(*bucket, *count));
            registers.iter().for_each(|(register, rank)| sample.principals.add(*register, *rank));
            for (gauge, count, value) in gauges {
                sample.gauges[gauge] = Reading { count, sum: value, max: value };
            }
            sample
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(sample in samples()) {
            let mut read = Sample::default();
            prop_assert_eq!(merge(&encode(&sample, true), &mut read), Some(()));
            prop_assert_eq!(&read, &sample);
            let mut without = Sample::default();
            merge(&encode(&sample, false), &mut without).unwrap();
            prop_assert_eq!(without.principals.count(), 0.0);
        }

        #[test]
        fn merging_bytes_is_merging_samples(one in samples(), other in samples()) {
            let mut read = one.clone();
            merge(&encode(&other, true), &mut read).unwrap();
            let mut merged = one;
            merged.merge(&other);
            prop_assert_eq!(read, merged);
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _read = merge(&bytes, &mut Sample::default());
        }
    }

    #[test]
    fn nothing_is_one_byte() {
        assert_eq!(encode(&Sample::default(), true), [0]);
        assert_eq!(merge(&[], &mut Sample::default()), None);
        assert_eq!(read(&mut &[0xff; 10][..]), None, "more than 64 bits");
    }
}
