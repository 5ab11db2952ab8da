//! Typed events, the metric registry, spans, the access log and the system sampler.

pub mod record;
