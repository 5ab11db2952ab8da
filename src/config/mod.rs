//! Configuration: raw YAML types, resolved into [`Config`], with every problem reported at once.

pub mod model;
pub mod secret;

pub use model::*;
