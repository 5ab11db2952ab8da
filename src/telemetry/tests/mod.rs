//! Tests of the folder as a whole: what a scraper, a collector and a reader of the access log see.

mod access_log;
mod exposition;
mod otlp;
mod otlp_metrics;
