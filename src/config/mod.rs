//! Configuration: raw YAML types, resolved into [`Config`], with every problem reported at once.
//!
//! The way of a file: `source` reads the text into a tree, `interpolate` puts the environment in, `decode`
//! makes `raw` types of it, `resolve` makes a [`Config`] of those. Each step adds to one list of problems, and
//! the next goes on with what is sound.

pub mod alerts;
pub mod expression;
pub mod keyring;
pub mod model;
pub mod prices;
pub mod raw;
pub mod scalar;
pub mod secret;
pub mod units;
pub mod values;
pub mod warm;

mod decode;
mod diff;
mod effective;
mod environment;
mod fault;
mod files;
mod interpolate;
mod load;
mod problem;
mod reference;
mod resolve;
mod schema;
mod source;
mod suggest;
mod tree;

#[cfg(test)]
mod tests;

pub use alerts::{AlertRule, Alerts, Objective, Severity};
pub use diff::restart_required;
pub use effective::effective;
pub use environment::{Environment, Lookup};
pub use files::content_digest;
pub use load::{Loaded, load, parse, quick};
pub use model::*;
pub use prices::{Price, Prices};
pub use problem::{Problem, Problems};
pub use reference::reference;
pub use schema::schema;
pub use source::to_yaml;
pub use warm::{Pace, Predict, Warm, WarmRequest, WarmSource};
