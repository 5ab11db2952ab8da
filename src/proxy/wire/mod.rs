//! HTTP/1 framing, checked on the bytes before the HTTP library sees them.
//!
//! The library tolerates some malformations (bare line feeds, several equal lengths, a length beside an encoding)
//! and answers others itself. Either lets two hops disagree about where a request ends, which is how requests are
//! smuggled. So a [`Scanner`] walks over everything a client sends, follows the message boundaries, and releases
//! only bytes of well-formed requests. [`Scanned`] puts it between the socket and the library.
//!
//! Invariant: the library never sees a byte of a request head before the whole head was found well-formed.

mod authority;
mod chunked;
mod class;
mod coalesced;
mod head;
mod interim;
mod malformed;
mod metered;
mod scanned;
mod scanner;
mod target;

pub use authority::Authority;
pub use coalesced::{Coalesced, Outbox};
pub use malformed::Malformed;
pub use metered::{Metered, Socket};
pub use scanned::Scanned;
pub use scanner::{Scan, Scanner, Stop, WireLimits};
pub(crate) use target::{TARGET_MAX, check_origin_form};
