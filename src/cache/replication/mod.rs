//! How replicas share the purge log.
//!
//! What they share is a place that does one call after the other (`place.rs`: scripts in Redis): it gives records their
//! positions, keeps them in order, and hands them out. A replica (`follower.rs`) reads on from the last record that it has
//! applied, tells how far it has come, and publishes what it holds.
//!
//! Why an entry's position means the same everywhere: a position is given by the place alone, in the order of its calls,
//! as the place's time in microseconds or one more than the last. No replica's clock is asked. An entry carries the
//! position up to which the replica that filled it had applied everything when the fill began. Another replica uses it
//! only if no record with a later position selects it, and none that it holds itself, which has no position yet. Whether
//! that is a purge that the filling replica had not heard of, or one that it held, or one that was lost and published
//! again: its position is later, so it counts.
//!
//! Invariant: a replica that cannot show that its last record is still in the place, or was trimmed from it in order, does
//! not go on there as if nothing had happened. If it was trimmed, everything older counts as purged. If not, the place has
//! lost acknowledged records, and a new incarnation begins at a position after every one that this replica has been at. An
//! incarnation begins with a record that makes everything older stale.
//!
//! Invariant: a purge leaves the list of what a replica holds only when it arrives in order from the place. What happens to
//! a call whose answer is lost does not matter: it is made again, and a record that has a place keeps it.
//!
//! Invariant: without contact for longer than the cap, nothing is used without validation that was filled longer ago than
//! that. This depends on no task that has to run: contact is a time up to which entries are trusted.

mod driver;
mod follower;
mod lease;
#[cfg(test)]
mod model;
mod place;
mod protocol;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use driver::{Confirmed, Replication, Status};
pub use lease::{Lease, Turn};
