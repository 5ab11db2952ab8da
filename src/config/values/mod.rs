//! Names, addresses and the parts of HTTP as they are written.

mod address;
mod http;
mod name;
mod path;
mod redis;
mod schedule;
mod stream;

pub use address::*;
pub use http::*;
pub use name::*;
pub use path::*;
pub use redis::*;
pub use schedule::*;

#[cfg(test)]
mod tests {
    use crate::config::scalar::Scalar;

    /// The hint for a text that is refused.
    pub(super) fn hint<T: Scalar>(text: &str) -> String {
        match T::parse(text) {
            Ok(_) => panic!("`{text}` is accepted"),
            Err(refusal) => refusal.hint.unwrap_or_default(),
        }
    }
}
