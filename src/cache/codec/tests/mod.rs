//! Tests of the way from a slot to a value and back.

mod fixture;
mod round_trip;
