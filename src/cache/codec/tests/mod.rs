//! Tests of the way from a slot to a value and back.

mod fixture;
mod golden;
mod hostile;
mod kept;
mod keys;
mod round_trip;
